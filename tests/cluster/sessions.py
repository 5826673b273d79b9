"""kubectl with a pod on the other end: exec, attach, cp, logs, port-forward, debug."""

import hashlib
import os
import pathlib
import re

from node import Failed
from on_cluster import BUSYBOX, SOON, OnCluster, page
from wait import until

CONTENT = 3_000_000


class Sessions(OnCluster):
    namespace = "pods"

    def test_exec_hands_on_input_output_and_status(self):
        self.await_pod("composed")
        said = self.kubectl("exec", "-i", "composed", "-c", "main", "--", "sh", "-c", "cat; echo done", given="from outside\n")
        self.assertEqual(said, "from outside\ndone\n")
        with self.assertRaisesRegex(Failed, "status 7"):
            self.kubectl("exec", "composed", "-c", "main", "--", "sh", "-c", "exit 7")

    def test_attach_to_a_pod_that_reads(self):
        said = self.kubectl("run", "reading", f"--image={BUSYBOX}", "--restart=Never", "--rm", "-i", "--quiet",
                            "--command", "--", "sh", "-c", 'read line; echo "heard $line"', given="a word\n")
        self.assertIn("heard a word", said)

    def test_copies_come_back_the_same(self):
        self.await_pod("composed")
        folder = pathlib.Path(os.environ["TMPDIR"])
        (folder / "there").write_bytes(os.urandom(CONTENT))
        self.kubectl("cp", str(folder / "there"), "composed:/data/copied", "-c", "main")
        self.kubectl("cp", "composed:/data/copied", str(folder / "back"), "-c", "main")
        there, back = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("there", "back"))
        self.assertEqual(there, back)

    def test_logs_of_now_and_of_before(self):
        until(lambda: "second life" in self.kubectl("logs", "crashed"), SOON, "the second life's log")
        self.assertEqual(self.kubectl("logs", "crashed", "--previous"), "first life\n")

    def test_logs_are_followed_to_the_end(self):
        self.kubectl("run", "talking", f"--image={BUSYBOX}", "--restart=Never", "--command", "--",
                     "sh", "-c", "echo line 1; until [ -e /followed ]; do sleep 0.1; done; for n in 2 3 4 5; do echo line $n; done")
        self.addCleanup(self.delete, "pod", "talking", "--now")
        until(lambda: "line 1" in self.kubectl("logs", "talking"), SOON, "the first line")
        following = self.started("logs", "--follow", "talking")
        until(lambda: "line 1" in following.said(), SOON, "the first line is followed")
        self.run_in("talking", "touch", "/followed", container="talking")
        until(lambda: not following.running(), SOON, "the log ends with its pod")
        self.assertEqual(following.said(), "".join(f"line {n}\n" for n in range(1, 6)))
        self.assertEqual(following.ended(1), 0)

    def test_port_forward(self):
        self.await_pod("probed")
        name = self.run_in("probed", "hostname")
        forward = self.started("port-forward", "pod/probed", ":8080")
        port = int(until(lambda: re.search(r"127\.0\.0\.1:(\d+)", forward.said()), SOON, "a port of the node")[1])
        for _ in range(20):
            self.assertEqual(page("127.0.0.1", port), name)

    def test_debug_container_sees_its_target(self):
        self.await_pod("composed")
        self.kubectl("debug", "composed", f"--image={BUSYBOX}", "--target=main", "--container=looking", "--",
                     "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; ls /proc/1/root/data")
        until(lambda: "terminated" in self.status_of("composed", "looking").get("state", {}), SOON, "the debugger has ended")
        said = self.kubectl("logs", "composed", "-c", "looking")
        self.assertIn("echo main", said)
        self.assertIn("order", said)
        self.assertEqual(self.status_of("composed")["restartCount"], 0)


CASES = (Sessions,)
