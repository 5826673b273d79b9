"""Kills a runtime's daemon again and again, and starts it again at once, as a supervisor with Restart=always does."""

import contextlib
import threading
from collections.abc import Iterator

from runtimes import Runtime

# The multiples of the golden ratio, taken modulo 1, fill the range evenly and never come round.
GOLDEN = (5**0.5 - 1) / 2


class Killer:
    """Kills every `seconds` or a little sooner, from its making to its `stop`; `kills` counts.

    Pauses are half as long to a third longer, in a fixed order, and a tenth shorter in the mean: in step with the
    kubelet's minute, each of its collections would meet a kill, and none would ever be finished.
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
        while not self._stopped.wait(self._seconds * (0.5 + 0.8 * (self.kills * GOLDEN % 1))):
            with self._turn:
                self._runtime.service.kill()
                self._runtime.service.restart()
                self.kills += 1
