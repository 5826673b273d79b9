"""Kills a runtime's daemon again and again, and starts it again at once, as a supervisor with Restart=always does."""

import contextlib
import threading
from collections.abc import Iterator

from runtimes import Runtime


class Killer:
    """Kills every `seconds` from its making to its `stop`, in the mean; `kills` counts.

    A pause is up to a tenth shorter or longer, each in a fixed order: in step with the kubelet's minute, each of its
    collections would meet a kill, and none would ever be finished.
    """

    def __init__(self, runtime: Runtime, seconds: float) -> None:
        self.kills = 0
        self._runtime, self._seconds = runtime, seconds
        self._turn, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Nobody is killed meanwhile, and the daemon answers."""
        with self._turn:
            self._runtime.await_ready()
            yield

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._runtime.await_ready()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds * (0.9 + 0.02 * (self.kills * 7 % 11))):
            with self._turn:
                self._runtime.service.kill()
                self._runtime.service.restart()
                self.kills += 1
