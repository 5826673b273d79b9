"""The kubelet and the daemon under it are restarted: no container is, and what is known of each stays."""

import json

from kubelet import put, take
from on_kubelet import START, OnKubelet
from pods import IDLE, IMAGE, main, pod
from wait import until

STEADY = ("web", "limited", "listen", "secured", "users", "mighty", "together", "node-network", "quick", "later")
OVER = ("finish", "talk", "accompanied", "impossible", "hungry", "speaking", "chat")
UNUSED = "gcr.io/k8s-staging-cri-tools/test-image-2:latest"


class Restarts(OnKubelet):
    marks = 0

    def told(self) -> dict[str, tuple]:
        """By pod and container: what may not change."""
        wanted = {f"{name}-node1" for name in (*STEADY, *OVER)}
        pods = [pod for pod in self.kubelet.pods() if pod["metadata"]["name"] in wanted]
        return {f"{pod['metadata']['name']}/{one['name']}": self.core(one)
                for pod in pods for one in pod["status"]["containerStatuses"]}

    def core(self, status: dict) -> tuple:
        (state, more), = status["state"].items()
        ended = tuple(more.get(key) for key in ("exitCode", "reason", "message", "finishedAt"))
        return status["containerID"], status["restartCount"], state, more["startedAt"], *ended

    def mark(self) -> None:
        """A new pod runs and goes: by then the kubelet has asked the daemon for everything."""
        Restarts.marks += 1
        name = f"mark-{self.marks}"
        put(pod(name, terminationGracePeriodSeconds=1, containers=[main(IDLE)]))
        self.await_running(name)
        take(name)
        self.await_stopped(name)

    def assert_stays(self, restart) -> None:
        for name in STEADY:
            self.await_running(name)
        for name in OVER:
            until(lambda name=name: self.kubelet.pod(name)["status"]["phase"] in ("Succeeded", "Failed"), START, f"{name} is over")
        with self.quiet():
            before = self.told()
            self.assertGreater(len(before), len(STEADY) + len(OVER))
            restart()
            self.mark()
            self.assertEqual(until(self.told, START, "the statuses"), before)

    def test_a_restart_of_the_daemon(self):
        def restart() -> None:
            self.runtime.service.stop()
            self.runtime.service.restart()
            self.runtime.await_ready()

        self.assert_stays(restart)

    def test_b_kill_of_the_daemon(self):
        def restart() -> None:
            self.runtime.service.kill()
            self.runtime.service.restart()
            self.runtime.await_ready()

        self.assert_stays(restart)

    def test_c_restart_of_the_kubelet(self):
        self.assert_stays(self.kubelet.restart)

    def test_d_restart_of_both_at_once(self):
        def restart() -> None:
            self.runtime.service.kill()
            self.kubelet.service.stop()
            self.runtime.service.restart()
            self.runtime.await_ready()
            self.kubelet.service.restart()
            until(self.kubelet.healthy, 60, "the kubelet is healthy again")

        self.assert_stays(restart)


class ImageCollection(OnKubelet):
    def images(self) -> set[str]:
        listed = json.loads(self.runtime.crictl("images", "-o", "json"))["images"]
        return {tag for image in listed for tag in image["repoTags"]}

    def collected(self) -> bool:
        """It collects once when it starts, then every 5 minutes; not at all where a container goes while it looks."""
        self.kubelet.restart(imageMinimumGCAge="1ns", imageMaximumGCAge="2ns")
        until(lambda: UNUSED not in self.images(), 5, "the unused image is gone")
        return True

    def test_image_that_nobody_uses_is_collected_and_comes_again(self):
        with self.quiet():
            self.runtime.crictl("pull", UNUSED)
            self.assertIn(UNUSED, self.images())
            until(self.collected, START, "the unused image is collected")
            self.assertIn(IMAGE, self.images())
            self.kubelet.restart()
        put(pod("again", containers=[{**main(IDLE), "image": UNUSED}]))
        self.await_running("again")


CASES = (Restarts, ImageCollection)
PODS = ()
