"""The same through a real kubelet's endpoints, with the packages that kubectl is made of."""

import json
import pathlib
import subprocess

from kubelet import API, NODE, Kubelet, put, take
from on_streams import (ANSWER, COUNTING, LARGE, PAGE, PORT, RESETTING, SERVE, SIGNALS, SOME_MEGABYTES, TRANSPORTS, OnStreams,
                        digest_of, noise, over_each_transport, runs)
from terminal import Terminal
from wait import until
import leftovers

START = 90


def pod(name: str, script: str, **more) -> dict:
    container = {"name": "main", "image": leftovers.IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", script], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}


class ThroughKubelet(OnStreams):
    kubelet: Kubelet

    @classmethod
    def setUpClass(cls):
        shell = pod("shell", "PS1='ready> ' exec sh", stdin=True, tty=True)
        for one in (pod("served", SERVE), pod("answers", ANSWER, stdin=True), shell):
            put(one)
            cls.addClassCleanup(take, one["metadata"]["name"])
        for name in ("served", "answers", "shell"):
            until(lambda name=name: "running" in cls.kubelet.container(name)["state"], START, f"{name} runs")
        until(lambda: cls.kubelet.run("served", "main", "wget", "-qO-", f"http://127.0.0.1:{PORT}/").strip() == PAGE.strip(), START, "pages")

    def words(self, verb: str, transport: str, name: str) -> list[str]:
        endpoint = {"exec": "exec", "attach": "attach"}.get(verb, "portForward")
        path = f"{API}/{endpoint}/default/{name}-{NODE}" + ("" if endpoint == "portForward" else "/main")
        return ["streams", *verb.split(), "--url", path, "--transport", transport]

    def transports(self) -> tuple[str, ...]:
        """The kubelet's own, whatever the runtime has."""
        return TRANSPORTS

    @over_each_transport
    def test_exec_has_its_streams_and_its_code(self, transport):
        command = [*self.words("exec", transport, "served"), "--no-stdin", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("out\n", "err\n", 7))

    @over_each_transport
    def test_exec_on_a_terminal_follows_its_size(self, transport):
        terminal = Terminal(*self.words("exec", transport, "served"), "--tty", "--", "sh", rows=42, columns=122)
        self.sized(terminal, "42 122")
        terminal.resize(53, 134)
        self.sized(terminal, "53 134")
        terminal.type("test -t 0 && echo a-''terminal; exit 3\n")
        terminal.expect("a-terminal")
        self.assertEqual(terminal.ended(), 3)

    @over_each_transport
    def test_100_megabytes_go_in_and_come_back(self, transport):
        source = SIGNALS.parent / "kubelet-noise"
        sent = noise(source, 100 << 20)
        with open(source, "rb") as stdin, subprocess.Popen(
            [*self.words("exec", transport, "served"), "--", "cat"], stdin=stdin, stdout=subprocess.PIPE,
        ) as client:
            self.assertEqual(digest_of(client.stdout), sent)
        self.assertEqual(client.returncode, 0)

    @over_each_transport
    def test_attach_speaks_with_the_container_again_and_again_and_leaves_it_alone(self, transport):
        for number in range(3):
            with subprocess.Popen(self.words("attach", transport, "answers"), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as client:
                client.stdin.write(f"hello {number}\n".encode())
                client.stdin.flush()
                self.assertEqual(client.stdout.readline(), f"got hello {number}\n".encode())
                client.kill()
        self.left_alone("answers")

    @over_each_transport
    def test_attach_on_a_terminal_follows_its_size_and_leaves_the_shell_to_the_next(self, transport):
        word = f"first{transport}"
        for rows, columns, heard in ((41, 121, word), (52, 133, word + "second")):
            terminal = Terminal(*self.words("attach", transport, "shell"), "--tty", rows=rows, columns=columns)
            self.sized(terminal, f"{rows} {columns}")
            terminal.resize(rows + 1, columns + 1)
            self.sized(terminal, f"{rows + 1} {columns + 1}")
            # What the shell still knows: the second client is at the same one.
            more = f"all={word}" if heard == word else "all=${all}second"
            terminal.type(f"test -t 0 && test -t 1 && test -t 2 && {more} && echo has-$all\n")
            terminal.expect(f"has-{heard}\r")
            terminal.hang_up()
        self.left_alone("shell")

    @over_each_transport
    def test_a_terminal_that_goes_away_takes_its_command_with_it(self, transport):
        mark = f"27{transport == 'spdy':d}18281"
        terminal = Terminal(*self.words("exec", transport, "served"), "--tty", "--", "sleep", mark)
        until(lambda: runs(mark), 10, "the command runs")
        terminal.hang_up()
        until(lambda: not runs(mark), 20, "the command has ended")

    @over_each_transport
    def test_port_forward_carries_http_by_many_and_much_at_once(self, transport):
        command = [*self.words("forward", transport, "served"), "--port", str(PORT)]
        pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        with subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL) as forward:
            self.addCleanup(forward.kill)
            self.carries_http(int(forward.stdout.readline()))
            forward.stdin.close()
            self.assertEqual(forward.wait(30), 0)

    @over_each_transport
    def test_a_large_download_comes_whole_through_a_forwarded_port(self, transport):
        command = [*self.words("rate forward", transport, "served"), "--port", str(PORT), "--bytes", str(LARGE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    @over_each_transport
    def test_a_storm_of_resets_leaves_the_session(self, transport):
        self.went_well("resets", transport, "--port", str(PORT), "--resetting", str(RESETTING), "--counting", str(COUNTING),
                       "--bytes", str(SOME_MEGABYTES), "--count", "100", "--at-once", "20")

    @over_each_transport
    def test_a_client_ends_its_direction_and_hears_the_pod(self, transport):
        self.went_well("counts", transport, "--counting", str(COUNTING), "--bytes", str(SOME_MEGABYTES),
                       "--count", "40", "--at-once", "10")

    @over_each_transport
    def test_many_connections_share_a_session(self, transport):
        self.went_well("connections", transport, "--port", str(PORT), "--count", "200", "--at-once", "20")

    def went_well(self, verb: str, transport: str, *words: str) -> None:
        command = [*self.words(verb, transport, "served"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["failures"], [])

    def left_alone(self, name: str) -> None:
        container = self.kubelet.container(name)
        self.assertIn("running", container["state"])
        self.assertEqual(container["restartCount"], 0)
