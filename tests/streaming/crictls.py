"""crictl's exec, attach and port-forward, each with each transport, as a person and as a script use them."""

import subprocess

from on_streams import ANSWER, PORT, SIGNALS, OnStreams, digest_of, noise, over_each_transport, runs
from terminal import Terminal
from wait import until

MEGABYTES_100 = 100 << 20


class Crictl(OnStreams):
    @over_each_transport
    def test_exec_on_a_terminal_follows_its_size_and_ends_with_its_code(self, transport):
        terminal = Terminal("crictl", "exec", "--transport", transport, "-it", self.served, "sh", rows=40, columns=120)
        terminal.type("PS1='ready> '\n")
        terminal.expect("\nready> ")
        self.sized(terminal, "40 120")
        terminal.resize(51, 132)
        self.sized(terminal, "51 132")
        terminal.type("tty; test -t 0 && test -t 1 && test -t 2 && echo all-''three\n")
        terminal.expect(r"/dev/pts/\d+")
        terminal.expect("all-three")
        terminal.type("exit\n")
        self.assertEqual(terminal.ended(), 0)

    @over_each_transport
    def test_a_terminal_that_goes_away_takes_its_command_with_it(self, transport):
        # A number of its own: the process is looked for in the pod's own namespace.
        mark = f"31{transport == 'spdy':d}41592"
        terminal = Terminal("crictl", "exec", "--transport", transport, "-it", self.served, "sleep", mark)
        until(lambda: runs(mark), 10, "the command runs")
        terminal.hang_up()
        until(lambda: not runs(mark), 20, "the command has ended")

    @over_each_transport
    def test_100_megabytes_go_in_and_come_back(self, transport):
        source = SIGNALS.parent / "noise"
        sent = noise(source, MEGABYTES_100)
        with open(source, "rb") as stdin, subprocess.Popen(
            ["crictl", "exec", "--transport", transport, "-i", self.served, "cat"], stdin=stdin, stdout=subprocess.PIPE,
        ) as crictl:
            self.assertEqual(digest_of(crictl.stdout), sent)
        self.assertEqual(crictl.returncode, 0)

    @over_each_transport
    def test_stdout_and_stderr_are_two(self, transport):
        done = subprocess.run(["crictl", "exec", "--transport", transport, self.served, "sh", "-c", "echo out; echo err >&2"],
                              capture_output=True, text=True, check=True)
        self.assertEqual((done.stdout, done.stderr), ("out\n", "err\n"))

    @over_each_transport
    def test_attach_speaks_with_the_container_and_leaves_it_alone(self, transport):
        container = self.pod.start(f"answers-{transport}", ANSWER, stdin=True)
        for number in range(2):
            with subprocess.Popen(["crictl", "attach", "--transport", transport, "-i", container],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crictl:
                crictl.stdin.write(f"line {number}\n".encode())
                crictl.stdin.flush()
                self.assertEqual(crictl.stdout.readline(), f"got line {number}\n".encode())
                crictl.kill()
        self.assertIn(container, self.running())

    @over_each_transport
    def test_attach_ends_with_the_input_where_the_containers_own_goes_on(self, transport):
        name = f"goes-on-{transport}"
        container = self.pod.start(name, ANSWER, stdin=True)
        for word in ("one", "two"):
            self.assertEqual(self.attached(transport, container, f"{word}\n").returncode, 0)
            until(lambda word=word: f"got {word}\n".encode() in self.pod.log(name), 20, f"the container has read {word}")
        self.assertNotIn(b"over", self.pod.log(name))
        self.assertIn(container, self.running())

    @over_each_transport
    def test_attach_ends_with_the_input_where_the_container_has_a_terminal(self, transport):
        name = f"typed-{transport}"
        container = self.pod.start(name, "exec sh", stdin=True, stdin_once=True, tty=True)
        self.assertEqual(self.attached(transport, container, "echo all-$((6 * 7))\n").returncode, 0)
        until(lambda: b"all-42" in self.pod.log(name), 20, "the shell has read it")
        self.assertIn(container, self.running())

    @over_each_transport
    def test_attach_hears_the_container_to_its_end_where_its_input_is_for_one_client(self, transport):
        container = self.pod.start(f"once-{transport}", "cat; sleep 1; echo over", stdin=True, stdin_once=True)
        done = self.attached(transport, container, "one\n")
        self.assertEqual((done.stdout, done.returncode), ("one\nover\n", 0))
        self.assertNotIn(container, self.running())

    def attached(self, transport: str, container: str, typed: str) -> subprocess.CompletedProcess:
        """A client whose input ends."""
        return subprocess.run(["crictl", "attach", "--transport", transport, "-i", container], input=typed,
                              capture_output=True, text=True, timeout=30, check=False)

    @over_each_transport
    def test_attach_on_a_terminal_follows_its_size_and_leaves_the_shell_to_the_next(self, transport):
        container = self.pod.start(f"shell-{transport}", "PS1='ready> ' exec sh", stdin=True, tty=True)
        for rows, columns, word in ((41, 121, "first"), (52, 133, "second")):
            terminal = Terminal("crictl", "attach", "--transport", transport, "-it", container, rows=rows, columns=columns)
            self.sized(terminal, f"{rows} {columns}")
            terminal.resize(rows + 1, columns + 1)
            self.sized(terminal, f"{rows + 1} {columns + 1}")
            terminal.type(f"test -t 0 && test -t 1 && test -t 2 && all=${{all}}{word} && echo has-$all\n")
            terminal.expect("has-" + ("first" if word == "first" else "firstsecond"))
            terminal.hang_up()
        self.assertIn(container, self.running())

    def running(self) -> list[str]:
        return self.runtime.crictl("ps", "-q", "--no-trunc", "--state", "Running").split()

    @over_each_transport
    def test_port_forward_carries_http_by_many_and_much_at_once(self, transport):
        with forwarded(self.pod.sandbox, transport) as port:
            self.carries_http(port)


class forwarded:
    """`crictl port-forward` while it runs; gives the local port."""

    def __init__(self, sandbox: str, transport: str) -> None:
        self.process = subprocess.Popen(
            ["crictl", "port-forward", "--transport", transport, sandbox, f"0:{PORT}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> int:
        # "Forwarding from 127.0.0.1:NNNN -> 8080"
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if "Forwarding from 127.0.0.1:" in line:
                return int(line.split("127.0.0.1:")[1].split()[0])
        raise AssertionError(f"crictl port-forward: {''.join(seen)}")

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.communicate()
