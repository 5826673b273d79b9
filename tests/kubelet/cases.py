"""What a kubelet's pods must do, asserted through the kubelet's own API and in the log files."""

import os
import pathlib
import re
import time

import pods
from kubelet import take
from on_kubelet import START, OnKubelet
from wait import until

CRI_LINE = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d)) (?P<stream>stdout|stderr) (?P<tag>[PF])(?::\S+)? (?P<text>.*)$"
)


class Health(OnKubelet):
    def test_kubelet_is_healthy(self):
        self.assertEqual(self.kubelet.get("/healthz"), "ok")


class Web(OnKubelet):
    def test_init_container_ran_first_and_completed(self):
        self.await_ready("web", True)
        ended = self.kubelet.container("web", "init")["state"]["terminated"]
        self.assertEqual((ended["exitCode"], ended["reason"]), (0, "Completed"))
        started = self.kubelet.container("web")["state"]["running"]["startedAt"]
        self.assertLessEqual(ended["finishedAt"], started)

    def test_http_probe_makes_the_pod_ready(self):
        self.await_ready("web", True)
        conditions = {one["type"]: one["status"] for one in self.kubelet.pod("web")["status"]["conditions"]}
        self.assertEqual(conditions["Ready"], "True")

    def test_host_port_on_loopback_serves_the_page_from_the_empty_dir(self):
        self.await_ready("web", True)
        self.assertEqual(until(lambda: self.page("127.0.0.1", pods.HOST_PORT), 10, "the page on 127.0.0.1"), pods.PAGE)

    def test_host_port_on_the_node_address_serves_the_page(self):
        self.await_ready("web", True)
        address = os.environ["CORTEN_NODE_IP"]
        self.assertEqual(until(lambda: self.page(address, pods.HOST_PORT), 10, f"the page on {address}"), pods.PAGE)

    def test_pod_has_an_address_of_the_pod_network(self):
        self.await_ready("web", True)
        self.assertTrue(self.kubelet.pod("web")["status"]["podIP"].startswith("10.88."))


class Probes(OnKubelet):
    def test_exec_readiness_follows_the_command(self):
        self.await_running("ready")
        self.await_ready("ready", False)
        (pods.SIGNALS / "ready").touch()
        self.await_ready("ready", True)
        (pods.SIGNALS / "ready").unlink()
        self.await_ready("ready", False)

    def test_failing_exec_liveness_restarts_the_container(self):
        first = self.await_running("live")
        (pods.SIGNALS / "sick").touch()
        until(lambda: self.kubelet.container("live")["restartCount"] > first["restartCount"], START, "the sick container is restarted")
        (pods.SIGNALS / "sick").unlink()
        again = self.await_running("live")
        self.assertNotEqual(again["containerID"], first["containerID"])


class Resources(OnKubelet):
    def test_memory_limit_is_in_the_containers_cgroup(self):
        self.assertEqual(self.cgroup_value("memory.limit_in_bytes", "memory.max"), str(64 << 20))

    def test_cpu_limit_is_in_the_containers_cgroup(self):
        limit = self.cgroup_value("cpu.cfs_quota_us", "cpu.max").split()
        period = limit[1] if len(limit) > 1 else self.cgroup_value("cpu.cfs_period_us", "cpu.max")
        self.assertEqual(int(limit[0]) / int(period), 0.2)

    def test_cgroup_lies_in_the_pods_cgroup(self):
        uid = self.kubelet.pod("limited")["metadata"]["uid"]
        for folder in self.cgroups():
            self.assertIn("/kubepods/burstable/pod", folder)
            self.assertIn(uid, folder)

    def cgroups(self) -> list[str]:
        wanted = self.await_running("limited")["containerID"].split("//")[1]
        found = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(folder).endswith(wanted)]
        self.assertTrue(found, f"no cgroup ends in {wanted}")
        return found

    def cgroup_value(self, *names: str) -> str:
        files = [pathlib.Path(folder, name) for folder in self.cgroups() for name in names]
        present = [file for file in files if file.exists()]
        self.assertTrue(present, f"none of {names} in the container's cgroups")
        return present[0].read_text().strip()


class Ends(OnKubelet):
    def test_crash_loop_counts_restarts_and_keeps_the_exit_code(self):
        until(lambda: self.kubelet.container("crash")["restartCount"] >= 2, START, "two restarts")
        last = until(lambda: self.kubelet.container("crash")["lastState"]["terminated"], START, "the last state")
        self.assertEqual((last["exitCode"], last["reason"]), (7, "Error"))

    def test_crash_loop_backs_off(self):
        def reason() -> str:
            return self.kubelet.container("crash")["state"]["waiting"]["reason"]

        until(lambda: reason() == "CrashLoopBackOff", START, "CrashLoopBackOff")

    def test_log_of_the_crashed_container_can_be_read(self):
        until(lambda: self.kubelet.container("crash")["restartCount"] >= 1, START, "a restart")
        # The kubelet keeps one dead container, so the one that it is asked for may just be replaced.
        until(lambda: self.kubelet.logs("crash", "?previous=true") == "about to fail\n", START, "the previous log")

    def test_a_pod_that_finishes_has_succeeded(self):
        until(lambda: self.kubelet.pod("finish")["status"]["phase"] == "Succeeded", START, "Succeeded")
        ended = self.kubelet.container("finish")["state"]["terminated"]
        self.assertEqual((ended["exitCode"], ended["reason"]), (0, "Completed"))
        self.assertEqual(self.kubelet.logs("finish"), "all done\n")


class Logs(OnKubelet):
    TOLD = ["to stdout", "x" * pods.LONG_LINE, "without an end"]

    def entries(self) -> list[re.Match]:
        self.await_ended("talk")
        lines = self.kubelet.log_file("talk").read_text().splitlines()
        entries = [CRI_LINE.match(line) for line in lines]
        self.assertNotIn(None, entries, f"not in CRI form: {[l[:80] for l, e in zip(lines, entries) if not e]}")
        return entries

    def test_file_is_in_cri_form_and_holds_all(self):
        texts, whole = [""], {"P": False, "F": True}
        for entry in (one for one in self.entries() if one["stream"] == "stdout"):
            texts[-1] += entry["text"]
            if whole[entry["tag"]]:
                texts.append("")
        self.assertEqual([text for text in texts if text], self.TOLD)

    def test_streams_are_told_apart(self):
        self.assertEqual([one["text"] for one in self.entries() if one["stream"] == "stderr"], ["to stderr"])

    def test_no_entry_is_longer_than_16_kib(self):
        self.assertLessEqual(max(len(one["text"]) for one in self.entries()), 16 * 1024)

    def test_times_do_not_run_backwards(self):
        times = [one["time"] for one in self.entries() if one["stream"] == "stdout"]
        self.assertEqual(times, sorted(times))

    def test_kubelet_serves_the_log(self):
        self.entries()
        served = self.kubelet.logs("talk")
        for text in [*self.TOLD, "to stderr"]:
            self.assertIn(text, served)

    def test_kubelet_serves_the_tail_with_times(self):
        self.entries()
        served = self.kubelet.logs("talk", "?tailLines=1&timestamps=true")
        self.assertRegex(served, r"^\d{4}-\d\d-\d\dT\S+ without an end")


class Deletion(OnKubelet):
    def test_removed_pod_gets_sigterm_says_farewell_and_stops(self):
        self.await_running("graceful")
        path = self.kubelet.log_file("graceful")
        until(lambda: " up" in path.read_text(), START, "the container is up")
        with open(path, encoding="utf-8") as log:
            asked = time.monotonic()
            take("graceful")
            self.await_stopped("graceful")
            # A container that ignored SIGTERM would have taken the whole grace of 30 s.
            self.assertLess(time.monotonic() - asked, 25)
            self.assertIn("farewell", log.read())


PODS = (pods.web, pods.ready_when_told, pods.sick_when_told, pods.limited, pods.crashing, pods.finishing,
        pods.graceful, pods.talking)
CASES = (Health, Web, Probes, Resources, Ends, Logs, Deletion)
