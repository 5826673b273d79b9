"""A program on a pseudo-terminal, typed at and read as a person does."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time


class Terminal:
    """Starts at once, on a terminal of `rows` by `columns`."""

    def __init__(self, *words: str, rows: int = 24, columns: int = 80) -> None:
        self.seen = ""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvp(words[0], words)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """The program gets SIGWINCH from the kernel."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str, seconds: float = 30) -> re.Match:
        """Reads until the pattern is seen, and forgets all up to its end."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            text = self._read() if ready else ""
            if not text:
                raise AssertionError(f"{pattern!r} did not come; seen: {self.seen[-500:]!r}")
            self.seen += text
        self.seen = self.seen[found.end():]
        return found

    def _read(self) -> str:
        try:
            return os.read(self.master, 1 << 16).decode(errors="replace")
        except OSError:
            return ""

    def ended(self) -> int:
        """Awaits the program's end; gives its exit status."""
        while self._read():
            pass
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def hang_up(self) -> None:
        """The terminal goes away."""
        os.close(self.master)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
