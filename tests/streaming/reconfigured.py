"""A daemon that is told to stop while sessions are open, and one that speaks TLS: each with a configuration of its own."""

import http.client
import pathlib
import socket
import ssl
import subprocess
from urllib.parse import urlsplit

from on_streams import PAGE, PORT, OnStreams, fetch, figure, over_each_transport
from wait import until

# How long sessions go on: enough for a few words each, whatever else the host does.
DRAIN = 20
CERTIFICATES = pathlib.Path("/etc/corten/tls")
SOME = "a line\n"


class Reconfigured(OnStreams):
    """The daemon is started again with keys of `[streaming]`, and at the end without them."""

    streaming = ""

    @classmethod
    def setUpClass(cls):
        cls.runtime.start_again(cls.streaming)
        cls.addClassCleanup(cls.runtime.start_again)
        super().setUpClass()


class Draining(Reconfigured):
    streaming = f'drain = "{DRAIN}s"'

    @over_each_transport
    def test_sessions_go_on_for_a_time_when_the_daemon_is_told_to_stop(self, transport):
        told = ["--transport", transport, "--endpoint", self.runtime.endpoint]
        cat = Talk(["streams", "exec", "--container", self.served, *told, "--", "cat"])
        self.addCleanup(cat.end)
        ports = ["streams", "forward", "--sandbox", self.pod.sandbox, "--port", str(PORT), *told]
        with subprocess.Popen(ports, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as forward:
            self.addCleanup(forward.kill)
            port = int(forward.stdout.readline())
            cat.echoes(self)
            waiting = self.streams("url", "--container", self.served, "--", "true").stdout.decode().strip()
            self.runtime.service.tell_to_stop()
            until(lambda: "code = Unavailable" in self.refusal(), 10, "no session is given any more")
            self.assertEqual(upgraded(waiting), 503)
            cat.echoes(self)
            self.assertEqual(fetch(port, "/"), PAGE.encode())
            self.assertTrue(self.runtime.service.running())
            self.assertEqual(self.runtime.service.ended(DRAIN + 30), 0)
            code, complaint = cat.over()
            self.assertNotEqual(code, 0)
            self.assertIn("the container runtime stops", complaint)
        self.runtime.service.restart()
        self.runtime.await_ready()
        self.assertEqual(self.runtime.crictl("exec", "-s", self.served, "echo", "still here").strip(), "still here")

    def refusal(self) -> str:
        return self.streams("exec", "--container", self.served, "--no-stdin", "--", "true").stderr.decode()


class OverTls(Reconfigured):
    streaming = (f'tls_cert = "{CERTIFICATES}/server.crt"\ntls_key = "{CERTIFICATES}/server.key"\n'
                 f'client_ca = "{CERTIFICATES}/clients.crt"')

    @classmethod
    def setUpClass(cls):
        CERTIFICATES.mkdir(exist_ok=True)
        for authority in ("first", "second", "clients"):
            authorize(authority)
        sign("server", "first")
        sign("client", "clients")
        sign("stranger", "first")
        super().setUpClass()

    def client(self, verb: str, transport: str, *words: str, trusts: str = "first", shows: str = "client") -> list[str]:
        keys = [f"--tls-cert={CERTIFICATES}/{shows}.crt", f"--tls-key={CERTIFICATES}/{shows}.key"]
        return ["crictl", verb, "--transport", transport, f"--tls-ca={CERTIFICATES}/{trusts}.crt", *keys, *words]

    def refused(self, transport: str, **tls: str) -> str:
        """What a client says that cannot come in."""
        done = subprocess.run(self.client("exec", transport, self.served, "echo", "hello", **tls),
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertNotIn("hello", done.stdout)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    @over_each_transport
    def test_an_exec_has_its_streams_and_its_code(self, transport):
        much = "x" * 1000 + "\n"
        command = self.client("exec", transport, "-i", self.served, "sh", "-c", "cat; echo err >&2; exit 7")
        done = subprocess.run(command, input=much * 20_000, capture_output=True, text=True, timeout=120, check=False)
        self.assertTrue(done.stdout == much * 20_000, f"{len(done.stdout)} bytes came back: {done.stderr[-300:]}")
        self.assertIn("err\n", done.stderr)
        # crictl's own status is 1, whatever the command's.
        self.assertIn("command terminated with exit code 7", done.stderr)

    def test_the_log_tells_who_stays_outside(self):
        said = [line for line in pathlib.Path(self.runtime.service.log).read_text().splitlines() if "client_ca is set" in line]
        self.assertIn("WARN", said[-1])
        self.assertIn("kubectl does not get in", said[-1])

    @over_each_transport
    def test_clients_of_others_stay_outside(self, transport):
        before = figure("corten_streaming_refused_total", reason="tls")
        self.assertIn("certificate", self.refused(transport, shows="stranger"))
        until(lambda: figure("corten_streaming_refused_total", reason="tls") > before, 10, "it is counted")
        self.assertIn("unknown authority", self.refused(transport, trusts="second"))

    def test_a_client_without_a_certificate_stays_outside(self):
        place = urlsplit(self.streams("url", "--container", self.served, "--", "true").stdout.decode())
        trusting = ssl.create_default_context(cafile=CERTIFICATES / "first.crt")
        with socket.create_connection((place.hostname, place.port), 10) as plain:
            with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                with self.assertRaises(ssl.SSLError) as refused:
                    client.sendall(f"GET {place.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    client.recv(1)
        self.assertIn("certificate", str(refused.exception).lower())

    @over_each_transport
    def test_a_new_certificate_is_taken_up_and_sessions_go_on(self, transport):
        self.addCleanup(self.show, "first")
        self.show("first")
        cat = Talk(self.client("exec", transport, "-i", self.served, "cat"))
        self.addCleanup(cat.end)
        cat.echoes(self)
        self.show("second")
        self.assertIn("unknown authority", self.refused(transport, trusts="first"))
        cat.echoes(self)

    def show(self, authority: str) -> None:
        """The server's certificate is one that this authority has signed."""
        sign("server", authority)
        until(lambda: self.came_in(authority), 20, f"the certificate of the {authority} authority is shown")

    def came_in(self, trusts: str) -> bool:
        done = subprocess.run(self.client("exec", "spdy", self.served, "echo", "hello", trusts=trusts),
                              capture_output=True, text=True, timeout=60, check=False)
        return done.stdout == "hello\n"


class Talk:
    """A command that gives back what it is given, line by line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def echoes(self, case: OnStreams) -> None:
        self.process.stdin.write(SOME)
        self.process.stdin.flush()
        case.assertEqual(self.process.stdout.readline(), SOME)

    def over(self) -> tuple[int, str]:
        """Its status and its complaints, once it has ended by itself."""
        complaint = self.process.stderr.read()
        return self.process.wait(30), complaint

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def upgraded(url: str) -> int:
    """The status that a client of WebSockets gets."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=10)
    connection.request("GET", place.path, headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "v5.channel.k8s.io"})
    return connection.getresponse().status


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], cwd=CERTIFICATES, check=True, capture_output=True)


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def authorize(name: str) -> None:
    openssl("req", "-x509", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}",
            "-addext", "basicConstraints=critical,CA:TRUE")


def sign(name: str, authority: str) -> None:
    """Each file is renamed into its place."""
    more = CERTIFICATES / "extensions"
    more.write_text("subjectAltName=DNS:localhost\n")
    openssl("req", *KEY, "-keyout", f".{name}.key", "-out", f".{name}.csr", "-subj", f"/CN={name}")
    openssl("x509", "-req", "-in", f".{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial",
            "-days", "2", "-extfile", more.name, "-out", f".{name}.crt")
    for kind in ("key", "crt"):
        (CERTIFICATES / f".{name}.{kind}").rename(CERTIFICATES / f"{name}.{kind}")
