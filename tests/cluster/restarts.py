"""The kubelet and the runtime are restarted under traffic: no request fails, no container is restarted."""

from node import NODE
from on_cluster import BUSYBOX, SOON
from traffic import UnderTraffic
from wait import until

MARK = "mark"


class Restarts(UnderTraffic):
    def staying(self) -> list[dict]:
        """The pods that neither have ended nor are about to."""
        pods = self.node.get("pods", "--all-namespaces", "--field-selector=status.phase!=Succeeded,status.phase!=Failed")["items"]
        return [pod for pod in pods if "minutely" not in pod["metadata"]["name"] and "deletionTimestamp" not in pod["metadata"]]

    def containers(self) -> dict[str, tuple[str, int]]:
        """Each container of theirs: its id, and how often it was restarted. Nothing while one of them does not run."""
        pods = self.staying()
        statuses = [(pod["metadata"], one) for pod in pods for one in pod["status"].get("containerStatuses", [])]
        if any(pod["status"]["phase"] == "Pending" for pod in pods) or not all("running" in one["state"] for _, one in statuses):
            return {}
        return {f"{pod['namespace']}/{pod['name']}/{one['name']}": (one["containerID"], one["restartCount"]) for pod, one in statuses}

    def serves_again(self) -> None:
        """The node is ready, and a new pod comes and goes: by then the kubelet has asked the runtime for everything."""
        until(self.node.is_ready, SOON, f"{NODE} is ready")
        self.addCleanup(self.delete, "pod", MARK, "--now", "--ignore-not-found")
        self.kubectl("run", MARK, f"--image={BUSYBOX}", "--restart=Never", "--command", "--", "sh", "-c", "exit 0")
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{MARK}", f"--timeout={SOON}s")
        self.delete("pod", MARK)

    def assert_unnoticed(self, restart) -> None:
        def happening() -> None:
            restart()
            self.serves_again()

        self.serves_again()
        before = until(self.containers, SOON, "every container runs")
        self.assertGreater(len(before), 12)
        self.assert_served(happening)
        self.assertEqual(self.containers(), before)

    def restart_runtime(self) -> None:
        self.node.runtime.service.stop()
        self.node.runtime.service.restart()
        self.node.runtime.await_ready()

    def kill_runtime(self) -> None:
        self.node.runtime.service.kill()
        self.node.runtime.service.restart()
        self.node.runtime.await_ready()

    def test_a_restart_of_the_kubelet(self):
        self.assert_unnoticed(self.node.restart_kubelet)

    def test_b_restart_of_the_runtime(self):
        self.assert_unnoticed(self.restart_runtime)

    def test_c_kill_of_the_runtime(self):
        self.assert_unnoticed(self.kill_runtime)

    def test_d_kill_of_the_runtime_and_restart_of_the_kubelet(self):
        def both() -> None:
            self.kill_runtime()
            self.node.restart_kubelet()

        self.assert_unnoticed(both)


CASES = (Restarts,)
