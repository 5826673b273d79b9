"""What whoever runs the node hears of sessions: of requests that are refused, of the daemon's stop, and of an address that is taken."""

import json
import re
import signal
import socket
import subprocess
import urllib.request
from urllib.parse import urlsplit

from on_streams import OnStreams, figure, over_each_transport
from reconfigured import Reconfigured, upgraded
from runtimes import METRICS
from wait import until

DRAIN = 3
# After that the daemon waits for goodbyes, and systemd for ten seconds.
GOODBYES = 10
# How long the daemon pauses between two tries to take its address, at the most, and more.
TRIES = 60


class Told(Reconfigured):
    streaming = f'drain = "{DRAIN}s"'

    def test_a_url_that_is_used_twice_is_a_line_without_its_token_and_counted(self):
        said = Said(self.runtime)
        place = urlsplit(self.streams("url", "--container", self.served, "--", "true").stdout.decode().strip())
        self.assertEqual(upgraded(place.geturl()), 101)
        counted = figure("corten_streaming_refused_total", reason="token")
        self.assertEqual(upgraded(place.geturl()), 404)
        self.assertEqual(figure("corten_streaming_refused_total", reason="token"), counted + 1)
        line = until(lambda: said.lines("was refused"), 10, "the log tells of it")[0]
        self.assertEqual((line["level"], line["reason"]), ("INFO", "token"))
        self.assertIn("127.0.0.1:", line["remote"])
        self.assertNotIn(place.path.rsplit("/", 1)[1], said.text())

    @over_each_transport
    def test_a_client_that_answers_nothing_has_ended_with_the_daemon(self, transport):
        said = Said(self.runtime)
        client = subprocess.Popen(["crictl", "exec", "--transport", transport, self.served, "cat", "/dev/zero"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(client.communicate)
        self.addCleanup(client.kill)
        self.assertEqual(client.stdout.read(1), b"\0")
        client.send_signal(signal.SIGSTOP)
        self.runtime.service.tell_to_stop()
        self.assertEqual(self.runtime.service.ended(DRAIN + 2 * GOODBYES), 0)
        stopping, ended, left = (said.lines(words) for words in ("stopping: sessions go on for up to 3s", "session ended", "were still open"))
        stopped = said.lines("stopped; containers run on")
        self.runtime.service.restart()
        self.runtime.await_ready()
        self.assertEqual([line["sessions"] for line in stopping], [1])
        self.assertIn("`[streaming] drain`", stopping[0]["message"])
        self.assertEqual([line["end"] for line in ended], ["stopping"])
        self.assertEqual([line["left"] for line in left], [1])
        self.assertEqual(len(stopped), 1)


class Said:
    """What the daemon says from now on."""

    def __init__(self, runtime) -> None:
        self.service = runtime.service
        self.before = len(self.service.said())

    def text(self) -> str:
        return self.service.said()[self.before:]

    def lines(self, words: str) -> list[dict]:
        """The lines of the log whose message has these words."""
        lines = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [line for line in lines if words in line.get("message", "")]


class Taken(OnStreams):
    """Another program has the port that the daemon is to listen at: it serves all the same, and listens once it can."""

    def test_the_daemon_serves_and_has_sessions_once_the_port_is_free(self):
        self.addCleanup(self.runtime.start_again)
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            said = Said(self.runtime)
            self.runtime.start_again(f'address = "{address}"')
            self.assertEqual(listening(), 0)
            line, = said.lines("exec, attach and port-forward are not served")
            self.assertEqual(line["level"], "ERROR")
            for word in (address, "`[streaming] address`", "ss -ltnp", "Address already in use"):
                self.assertIn(word, line["error"])
            self.assertEqual(self.runtime.crictl("exec", "-s", self.served, "echo", "served").strip(), "served")
            refused = self.echo()
            self.assertIn("code = Unavailable", refused.stderr)
            self.assertIn(address, refused.stderr)
        until(lambda: listening() == 1, TRIES, "the daemon listens")
        self.assertEqual(self.echo().stdout, "hello\n")

    def echo(self) -> subprocess.CompletedProcess:
        return subprocess.run(["crictl", "exec", self.served, "echo", "hello"], capture_output=True, text=True, timeout=60, check=False)


def listening() -> int:
    with urllib.request.urlopen(METRICS, timeout=10) as answer:
        return int(re.search(r"^corten_streaming_listening (\d)$", answer.read().decode(), re.MULTILINE)[1])
