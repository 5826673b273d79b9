"""What a session costs the daemon at the most: its client takes nothing and sends more than is taken."""

import pathlib
import re
import subprocess

from on_streams import PORT, over_each_transport
from reconfigured import CERTIFICATES, Reconfigured, authorize, sign
from wait import until

# So many at once that what the daemon takes for itself does not count.
SESSIONS = 100
MOST_KB = 256
# Sessions of many connections, and how many: what a connection has besides bytes, a task and a socket.
FULL_SESSIONS = 8
CONNECTIONS = 50
CONNECTION_KB = 4
# So many looks in a row that see no more.
STEADY = 15


class Memory(Reconfigured):
    """Each session is measured on a daemon that has just been started: what one has given back the next would take."""

    @over_each_transport
    def test_an_exec_takes_at_most_256_kib(self, transport):
        self.takes_little("exec", transport, "--container", self.served, "--", "cat", "/dev/zero")

    @over_each_transport
    def test_a_forwarded_connection_takes_at_most_256_kib(self, transport):
        self.takes_little("port-forward", transport, "--sandbox", self.pod.sandbox, "--port", str(PORT))

    @over_each_transport
    def test_many_connections_of_a_session_take_no_more(self, transport):
        self.takes_little(f"port-forward of {CONNECTIONS} connections", transport,
                          "--sandbox", self.pod.sandbox, "--port", str(PORT), "--pairs", str(CONNECTIONS),
                          sessions=FULL_SESSIONS, most=MOST_KB + CONNECTIONS * CONNECTION_KB)

    def takes_little(self, kind: str, transport: str, *what: str, sessions: int = SESSIONS, most: int = MOST_KB) -> None:
        self.runtime.start_again(self.streaming)
        # What is made once is there.
        self.held(1, transport, what)
        each = self.held(sessions, transport, what)
        print(f"{kind} over {transport}{self.beneath}: {each:.0f} KiB a session", flush=True)
        self.assertLessEqual(each, most)

    beneath = ""

    def held(self, count: int, transport: str, what: tuple[str, ...]) -> float:
        """How much the daemon grows by each of so many sessions, in KiB."""
        before = self.resident()
        words = ["streams", "held", "--endpoint", self.runtime.endpoint, "--transport", transport, "--count", str(count), *what]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
            self.addCleanup(client.kill)
            self.assertEqual(client.stdout.readline(), f"{count}\n".encode())
            most = self.most_resident()
            client.stdin.close()
            self.assertEqual(client.wait(60), 0)
        return (most - before) / count

    def most_resident(self) -> int:
        seen = [self.resident()]

        def steady() -> bool:
            seen.append(self.resident())
            return len(seen) > STEADY and max(seen[-STEADY:]) <= max(seen[:-STEADY])

        until(steady, 60, "the daemon has grown to what it takes")
        return max(seen)

    def resident(self) -> int:
        status = pathlib.Path(f"/proc/{self.runtime.service.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1])


class MemoryOverTls(Memory):
    streaming = f'tls_cert = "{CERTIFICATES}/server.crt"\ntls_key = "{CERTIFICATES}/server.key"'
    beneath = " with TLS"

    @classmethod
    def setUpClass(cls):
        CERTIFICATES.mkdir(exist_ok=True)
        authorize("first")
        sign("server", "first")
        super().setUpClass()
