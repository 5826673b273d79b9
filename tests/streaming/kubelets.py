"""The same through a real kubelet's endpoints, with the packages that kubectl is made of."""

import json
import pathlib
import subprocess

from kubelet import API, NODE, Kubelet, put, take
from on_streams import ANSWER, PAGE, PORT, SERVE, SIGNALS, OnStreams, digest_of, noise
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
    transports = ("spdy", "websocket")

    @classmethod
    def setUpClass(cls):
        for one in (pod("served", SERVE), pod("answers", ANSWER, stdin=True)):
            put(one)
            cls.addClassCleanup(take, one["metadata"]["name"])
        for name in ("served", "answers"):
            until(lambda name=name: "running" in cls.kubelet.container(name)["state"], START, f"{name} runs")
        until(lambda: cls.kubelet.run("served", "main", "wget", "-qO-", f"http://127.0.0.1:{PORT}/").strip() == PAGE.strip(), START, "pages")

    def words(self, verb: str, transport: str, name: str) -> list[str]:
        endpoint = {"exec": "exec", "attach": "attach"}.get(verb, "portForward")
        path = f"{API}/{endpoint}/default/{name}-{NODE}" + ("" if endpoint == "portForward" else "/main")
        return ["streams", verb, "--url", path, "--transport", transport]

    def each(self):
        for transport in self.transports:
            with self.subTest(transport=transport):
                yield transport

    def test_exec_has_its_streams_and_its_code(self):
        for transport in self.each():
            command = [*self.words("exec", transport, "served"), "--no-stdin", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.stdout, done.stderr, done.returncode), ("out\n", "err\n", 7))

    def test_exec_on_a_terminal(self):
        for transport in self.each():
            terminal = Terminal(*self.words("exec", transport, "served"), "--tty", "--", "sh")
            terminal.type("test -t 0 && echo a-''terminal; exit\n")
            terminal.expect("a-terminal")
            self.assertEqual(terminal.ended(), 0)

    def test_100_megabytes_go_in_and_come_back(self):
        source = SIGNALS.parent / "kubelet-noise"
        sent = noise(source, 100 << 20)
        for transport in self.each():
            with open(source, "rb") as stdin, subprocess.Popen(
                [*self.words("exec", transport, "served"), "--", "cat"], stdin=stdin, stdout=subprocess.PIPE,
            ) as client:
                self.assertEqual(digest_of(client.stdout), sent)
            self.assertEqual(client.returncode, 0)

    def test_attach_speaks_with_the_container(self):
        for transport in self.each():
            with subprocess.Popen(self.words("attach", transport, "answers"), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE) as client:
                client.stdin.write(b"hello\n")
                client.stdin.flush()
                self.assertEqual(client.stdout.readline(), b"got hello\n")
                client.kill()

    def test_port_forward_carries_http_and_survives_resets(self):
        for transport in self.each():
            for verb, count in (("connections", "200"), ("resets", "100")):
                command = [*self.words(verb, transport, "served"), "--port", str(PORT), "--count", count, "--at-once", "20"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(json.loads(done.stdout)["failures"], [])
