"""A program that runs in the background of a test, with its output in a file."""

import os
import signal
import subprocess
from collections.abc import Sequence


class Service:
    """Starts at once. Its log is `$CORTEN_TIER_LOGS/NAME.log`."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.log = os.path.join(log_folder(), name + ".log")
        self.command = [str(word) for word in command]
        with open(self.log, "ab") as log:
            self._began = log.tell()
        self._process = self._spawn()

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def tell_to_stop(self) -> None:
        if self.running():
            self._process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float) -> int:
        """Awaits its end. Gives the exit status, negative for a signal."""
        return self._process.wait(seconds)

    def stop(self, grace: float = 20) -> int:
        """SIGTERM, then SIGKILL after `grace` seconds. Gives the exit status, negative for a signal."""
        self.tell_to_stop()
        try:
            return self.ended(grace)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self._process.kill()
        return self._process.wait()

    def restart(self) -> None:
        self._process = self._spawn()

    def tail(self, lines: int = 40) -> str:
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def said(self) -> str:
        """All that it has said since it was made: the log may begin with another one's of the same name."""
        with open(self.log, "rb") as log:
            log.seek(self._began)
            return log.read().decode(errors="replace")

    def _spawn(self) -> subprocess.Popen:
        with open(self.log, "ab") as log:
            return subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def log_folder() -> str:
    """Where this tier's logs go; the working folder where nobody said."""
    folder = os.environ.get("CORTEN_TIER_LOGS", ".")
    os.makedirs(folder, exist_ok=True)
    return folder
