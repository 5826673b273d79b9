"""How containers end: for want of memory, by a signal from outside; what they say at last; hooks before and after."""

import os
import signal

from on_kubelet import OnKubelet
from kubelet import take
from pods import IDLE, SIGNALS, main, pod, signals

LIMIT = {"limits": {"memory": "32Mi"}}
# By container: (script, what more, exit code, the message that the kubelet must have).
LAST_WORDS = {
    "main": ("printf 'told by the file' >/dev/termination-log; exit 3", {}, 3, "told by the file"),
    "log": ("echo 'told by the log'; exit 4", {"terminationMessagePolicy": "FallbackToLogsOnError"}, 4, "told by the log\n"),
    "well": ("echo nothing to tell", {"terminationMessagePolicy": "FallbackToLogsOnError"}, 0, None),
    "user": ("printf 'told by a user' >/tmp/word; exit 5",
             {"terminationMessagePath": "/tmp/word", "securityContext": {"runAsUser": 1000}}, 5, "told by a user"),
}


def hungry() -> dict:
    """One takes more memory than it may; the one beside has the same limit and keeps it."""
    beside = {**main(IDLE, resources=LIMIT), "name": "beside"}
    return pod("hungry", restartPolicy="Never", containers=[main("exec dd if=/dev/zero of=/dev/null bs=200M", resources=LIMIT), beside])


def speaking() -> dict:
    containers = [{**main(script, **more), "name": name} for name, (script, more, _, _) in LAST_WORDS.items()]
    return pod("speaking", restartPolicy="Never", containers=containers)


def hooked() -> dict:
    """Each container says on the host what came when: a hook before its signal."""
    mounts = [{"name": "signals", "mountPath": "/signals"}]

    def told(name: str, hooks: dict, script: str = "while :; do usleep 100000; done") -> dict:
        trap = f"trap 'echo {name}: term >>/signals/order; exit 0' TERM; "
        return {**main(trap + script, lifecycle=hooks, volumeMounts=mounts), "name": name}

    post = {"exec": {"command": ["sh", "-c", "echo started >/tmp/post-start"]}}
    pre = {"exec": {"command": ["sh", "-c", "echo main: hook >>/signals/order"]}}
    served = "httpd -f -vv -p 8081 & while :; do usleep 100000; done"
    return pod("hooked", volumes=[signals()], containers=[
        told("main", {"postStart": post, "preStop": pre}),
        told("web", {"preStop": {"httpGet": {"path": "/goodbye", "port": 8081}}}, served),
        told("sleeper", {"preStop": {"sleep": {"seconds": 6}}}),
    ])


class Memory(OnKubelet):
    def test_full_memory_is_oomkilled_137(self):
        ended = self.await_ended("hungry")
        self.assertEqual((ended["exitCode"], ended["reason"]), (137, "OOMKilled"))

    def test_kill_from_outside_is_error_137_also_beside_one_that_was_oomkilled(self):
        self.await_ended("hungry")
        self.await_running("hungry", "beside")
        os.kill(self.pid("hungry", "beside"), signal.SIGKILL)
        ended = self.await_ended("hungry", "beside")
        self.assertEqual((ended["exitCode"], ended["reason"]), (137, "Error"))


class LastWords(OnKubelet):
    def test_each_container_has_its_termination_message(self):
        for name, (_, _, code, message) in LAST_WORDS.items():
            with self.subTest(container=name):
                ended = self.await_ended("speaking", name)
                self.assertEqual((ended["exitCode"], ended.get("message")), (code, message))


class Hooks(OnKubelet):
    def test_a_post_start_hook_ran_in_the_container(self):
        self.await_running("hooked")
        self.assertEqual(self.run_in("hooked", "cat", "/tmp/post-start"), "started")

    def test_b_pre_stop_hooks_run_before_the_signal(self):
        for name in ("main", "web", "sleeper"):
            self.await_running("hooked", name)
        with open(self.kubelet.log_file("hooked", "web"), encoding="utf-8") as log:
            take("hooked")
            self.await_stopped("hooked")
            self.assertIn("/goodbye", log.read())
        order = (SIGNALS / "order").read_text().splitlines()
        self.assertEqual(sorted(order), ["main: hook", "main: term", "sleeper: term", "web: term"])
        self.assertLess(order.index("main: hook"), order.index("main: term"))
        # It slept for 6 s first, the others had nothing to wait for.
        self.assertEqual(order[-1], "sleeper: term")


PODS = (hungry, speaking, hooked)
CASES = (Memory, LastWords, Hooks)
