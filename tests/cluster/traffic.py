"""Clients that keep asking through a Service while something happens to the node."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from on_cluster import OnCluster, page
from wait import until

PACE = 0.03
ENOUGH = 50
FAILED = "FAILED"


class Asking:
    """Asks a web server again and again, each time over a new connection, from the node."""

    def __init__(self, address: str, port: int = 80) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._address, self._port = address, port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """From the beginning to the end, at least `ENOUGH` times before and after what happens in between."""
        self._thread.start()
        try:
            self.some_more()
            yield
            self.some_more()
        finally:
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
                self.answers[self._answer()] += 1
            except Exception as error:  # noqa: BLE001  (whatever it is, this request has failed)
                self.failures.append(repr(error))

    def _answer(self) -> str:
        answer = page(self._address, self._port)
        if not answer:
            raise ValueError("an empty answer")
        return answer


class UnderTraffic(OnCluster):
    """Cases with a client on the node and one in a pod, which says to its log what failed."""

    namespace = "work"

    def setUp(self) -> None:
        self.node.roll_out("work", "deploy/web")
        self.await_pod("asking")

    def lines(self) -> list[str]:
        return self.kubectl("logs", "asking").splitlines()

    def some_more_from_the_pod(self) -> None:
        wanted = len(self.lines()) + ENOUGH
        until(lambda: len(self.lines()) >= wanted, 120, f"{ENOUGH} more requests from the pod")

    def assert_served(self, happening) -> Asking:
        """Runs `happening` under traffic: no request may fail until both clients have asked `ENOUGH` times after it.

        Gives what the node's client saw.
        """
        before = len(self.lines())
        asking = Asking(self.service_address("web"))
        with asking.going_on():
            happening()
            self.some_more_from_the_pod()
        lines = self.lines()[before:]
        failed = [line for line in lines if FAILED in line]
        print(f"{self.id()}: {asking.asked()} requests from the node, {len(lines)} from a pod,",
              f"{len(asking.failures)} and {len(failed)} failed", flush=True)
        self.assertEqual((asking.failures, failed), ([], []))
        return asking
