"""Clients that keep asking through a Service while something happens to the node."""

import threading
from collections import Counter

from on_cluster import OnCluster, page
from wait import until

PACE = 0.03
ENOUGH = 50
FAILED = "FAILED"


class Asking:
    """Asks a web server again and again, each time over a new connection, from the node.

    As a context: from its beginning to its end, at least `ENOUGH` times before and after what happens in between.
    """

    def __init__(self, address: str, port: int = 80) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._address, self._port = address, port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Asking":
        self._thread.start()
        self.some_more()
        return self

    def __exit__(self, *_error) -> None:
        self.some_more()
        self._over.set()
        self._thread.join()

    def asked(self) -> int:
        return self.answers.total() + len(self.failures)

    def some_more(self) -> None:
        wanted = self.asked() + ENOUGH
        until(lambda: self.asked() >= wanted, 120, f"{ENOUGH} more requests")

    def _run(self) -> None:
        while not self._over.wait(PACE):
            try:
                self.answers[page(self._address, self._port)] += 1
            except OSError as error:
                self.failures.append(repr(error))


class UnderTraffic(OnCluster):
    """Cases with a client on the node and one in a pod, which says to its log what failed."""

    namespace = "work"

    def setUp(self) -> None:
        self.node.roll_out("work", "deploy/web")
        self.await_pod("asking")

    def lines(self) -> list[str]:
        return self.kubectl("logs", "asking").splitlines()

    def assert_served(self, happening) -> "Asking":
        """Runs `happening` under traffic: no request may fail meanwhile. Gives what the node's client saw."""
        before = len(self.lines())
        with Asking(self.service_address("web")) as asking:
            happening()
        until(lambda: len(self.lines()) > before + ENOUGH, 120, "the pod's client goes on")
        failed = [line for line in self.lines()[before:] if FAILED in line]
        print(f"{self.id()}: {asking.asked()} requests from the node, {len(self.lines()) - before} from a pod,",
              f"{len(asking.failures)} and {len(failed)} failed", flush=True)
        self.assertEqual((asking.failures, failed), ([], []))
        return asking
