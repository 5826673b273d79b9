"""What controllers run: Deployment, StatefulSet, DaemonSet, Job, CronJob, and the traffic between their pods."""

from on_cluster import SOON, OnCluster, await_page, page
from traffic import UnderTraffic
from wait import until

MANIFEST = "work.yaml"
NODE_PORT = 30080
HOST_PORT = 18080
REPLICAS = 3


class Deployments(UnderTraffic):
    def test_a_every_replica_answers_through_the_service(self):
        address, seen = self.service_address("web"), set()
        until(lambda: seen.add(page(address)) or len(seen) == REPLICAS, SOON, "every pod has answered")
        self.assertEqual(seen, {f"{name} one" for name in self.names("app=web")})

    def test_b_node_port(self):
        await_page(self.node.address, NODE_PORT, " one")

    def test_c_pod_to_pod_and_service_by_name(self):
        addresses = [pod["status"]["podIP"] for pod in self.pods("app=web")]
        for asked in (*addresses, "web", "web.work.svc.cluster.local"):
            self.assertIn(" one", self.run_in("asking", "wget", "-T", "10", "-qO-", f"http://{asked}/"))

    def test_d_rolling_update_loses_no_request(self):
        change = {"spec": {"template": {"spec": {"volumes": [{"name": "version", "configMap": {"name": "version-two"}}]}}}}

        def update() -> None:
            self.patch("deploy/web", change)
            self.node.roll_out("work", "deploy/web")
            until(lambda: len(self.get("pods", "-l", "app=web")["items"]) == REPLICAS, SOON, "the old pods are gone")

        asking = self.assert_served(update)
        versions = {answer.split()[1] for answer in asking.answers}
        self.assertEqual(versions, {"one", "two"})
        self.assertIn(" two", page(self.service_address("web")))

    def test_e_scaled_down_and_up_again(self):
        for replicas in (1, REPLICAS):
            self.kubectl("scale", "deploy/web", f"--replicas={replicas}")
            self.node.roll_out("work", "deploy/web")
            until(lambda count=replicas: len(self.pods("app=web")) == count, SOON, f"{replicas} pods")


class Controllers(OnCluster):
    namespace = "work"

    def test_daemon_set_with_a_host_port(self):
        self.node.roll_out("work", "ds/everywhere")
        for address in (self.node.address, "127.0.0.1"):
            await_page(address, HOST_PORT, "welcome")

    def test_stateful_set_keeps_names_and_volumes(self):
        self.node.roll_out("work", "statefulset/state")
        self.assertEqual(self.names("app=state"), {"state-0", "state-1"})
        self.assertEqual(self.starts("state-0"), ["state-0"])
        uid = self.get("pod", "state-0")["metadata"]["uid"]
        self.delete("pod", "state-0")
        until(lambda: self.get("pod", "state-0")["metadata"]["uid"] != uid, SOON, "another state-0")
        self.node.roll_out("work", "statefulset/state")
        self.assertEqual(self.starts("state-0"), ["state-0"] * 2)

    def starts(self, pod: str) -> list[str]:
        """What the pod of this name has written to its volume, as a neighbour sees it by the pod's own DNS name."""
        url = f"http://{pod}.state.work.svc.cluster.local:8080/"
        return until(lambda: self.asked_by("asking", url), SOON, f"{url} answers")

    def test_pod_behind_a_service_reaches_itself_through_it(self):
        self.node.roll_out("work", "statefulset/state")
        url, answers = "http://state-by-turns:8080/", set()
        until(lambda: answers.update(self.asked_by("state-0", url)) or answers == {"state-0", "state-1"}, SOON,
              "state-0 has met its neighbour and itself")

    def asked_by(self, pod: str, url: str) -> list[str]:
        return self.run_in(pod, "wget", "-T", "10", "-qO-", url).split()

    def test_job_runs_each_index_once(self):
        self.kubectl("wait", "--for=condition=Complete", "job/count", f"--timeout={SOON}s")
        logs = self.kubectl("logs", "-l", "job-name=count", "--tail=-1")
        self.assertEqual(sorted(logs.splitlines()), [f"counted {index}" for index in range(3)])

    def test_job_that_fails_says_so(self):
        self.kubectl("wait", "--for=condition=Failed", "job/failing", f"--timeout={SOON}s")
        pod, = self.pods("job-name=failing")
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        self.assertEqual((ended["exitCode"], ended["reason"]), (3, "Error"))

    def test_z_cron_job_has_run(self):
        def ended() -> list[str]:
            return [pod["metadata"]["name"] for pod in self.pods("app=minutely") if pod["status"]["phase"] == "Succeeded"]

        # Not by the label: another one may be about to begin.
        name = until(ended, SOON, "a run of minutely")[-1]
        self.assertEqual(self.kubectl("logs", name), "a minute has begun\n")


CASES = (Controllers, Deployments)
