"""What a pod may be made of: kinds of containers, probes, volumes, users, and resources that change while it runs."""

import json
import pathlib
from collections.abc import Iterable

from on_cluster import SOON, OnCluster
from wait import until

MANIFEST = "pods.yaml"
MEBIBYTE = 1024 * 1024
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# What the kernel holds a container to, by the files of its cgroup, with 100m and 64Mi and with 200m and 96Mi.
VERSION_1 = ({"memory.limit_in_bytes": str(64 * MEBIBYTE), "cpu.cfs_quota_us": "10000", "cpu.shares": "51"},
             {"memory.limit_in_bytes": str(96 * MEBIBYTE), "cpu.cfs_quota_us": "20000", "cpu.shares": "153"})
VERSION_2 = ({"memory.max": str(64 * MEBIBYTE), "cpu.max": "10000 100000"},
             {"memory.max": str(96 * MEBIBYTE), "cpu.max": "20000 100000"})
SMALL, LARGE = VERSION_2 if (CGROUPS / "cgroup.controllers").exists() else VERSION_1


class InPods(OnCluster):
    namespace = "pods"


class Containers(InPods):
    def test_init_containers_and_a_sidecar_come_in_order(self):
        self.await_pod("composed")
        self.assertEqual(self.run_in("composed", "cat", "/data/order").split(), ["first", "beside", "second", "main"])
        self.assertEqual(self.run_in("composed", "cat", "/data/fetched"), "page")

    def test_crashed_container_comes_again(self):
        until(lambda: self.status_of("crashed")["restartCount"] == 1, SOON, "a second start")
        self.await_pod("crashed")
        ended = self.status_of("crashed")["lastState"]["terminated"]
        self.assertEqual((ended["exitCode"], ended["reason"]), (7, "Error"))

    def test_readiness_decides_who_is_asked_and_liveness_who_is_restarted(self):
        self.await_pod("probed")
        until(lambda: self.endpoints("probed") == [True], SOON, "a ready endpoint")
        self.run_in("probed", "touch", "/tmp/busy")
        until(lambda: self.endpoints("probed") == [False], SOON, "no ready endpoint")
        self.assertEqual(self.status_of("probed")["restartCount"], 0)
        self.run_in("probed", "rm", "/tmp/pages/index.html")
        until(lambda: self.status_of("probed")["restartCount"] == 1, SOON, "a restart")
        until(lambda: self.endpoints("probed") == [True], SOON, "ready again")

    def endpoints(self, service: str) -> list[bool]:
        """Which endpoints a Service has: whether each is ready."""
        slices = self.get("endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
        return [one["conditions"]["ready"] for part in slices for one in part["endpoints"] or []]


class Volumes(InPods):
    def setUp(self) -> None:
        self.await_pod("volumes")

    def read(self, path: str) -> str:
        return self.run_in("volumes", "cat", path)

    def test_a_config_maps_and_secrets(self):
        self.assertEqual(self.run_in("volumes", "sh", "-c", "echo $WORD $SET_colour"), "weathered rust")
        self.assertEqual(self.read("/settings/colour"), "rust")
        self.assertEqual(self.read("/one/colour"), "rust")
        self.assertEqual(self.read("/password/word"), "weathered")
        self.assertEqual(self.run_in("volumes", "stat", "-Lc", "%a", "/password/word"), "400")

    def test_b_projected_sources_are_in_one_volume(self):
        self.assertEqual(self.read("/all/colour"), "rust")
        self.assertEqual(self.read("/all/secret/word"), "weathered")
        self.assertEqual(self.read("/all/labels"), 'kind="volumes"')
        self.assertEqual(self.read("/all/limit"), str(64 * MEBIBYTE))
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": self.read("/all/token")}}
        answer = json.loads(self.kubectl("create", "-o", "json", "-f", "-", given=json.dumps(review)))
        self.assertEqual(answer["status"]["user"]["username"], "system:serviceaccount:pods:default")

    def test_c_image_volume_is_there_to_be_read(self):
        self.assertEqual(self.read("/content/TEST-1-latest"), "1:latest")
        self.assertIn("Read-only", self.run_in("volumes", "sh", "-c", "touch /content/new 2>&1 || true"))

    def test_d_changed_config_map_arrives(self):
        self.patch("configmap/settings", {"data": {"colour": "patina"}})
        for path in ("/settings/colour", "/all/colour"):
            until(lambda path=path: self.read(path) == "patina", SOON, f"{path} changes")
        self.assertEqual(self.read("/one/colour"), "rust", "a sub path stays as it was")


class Users(InPods):
    def setUp(self) -> None:
        self.await_pod("users")

    def test_pod_has_users_of_its_own(self):
        inside, outside, length = map(int, self.run_in("users", "cat", "/proc/self/uid_map").split())
        self.assertEqual((inside, length), (0, 65536))
        self.assertGreaterEqual(outside, 65536)
        self.assertEqual(self.run_in("users", "id", "-u"), "0")

    def test_volumes_have_the_owners_of_the_inside(self):
        self.assertEqual(self.run_in("users", "stat", "-Lc", "%u:%g", "/settings/colour"), "0:0")
        self.run_in("users", "touch", "/data/written")
        self.assertEqual(self.run_in("users", "stat", "-c", "%u", "/data/written"), "0")


class Resizes(InPods):
    def resize(self, resources: dict) -> None:
        change = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
        self.patch("pod/resized", change, "--subresource=resize")

    def held(self, files: Iterable[str]) -> dict[str, str]:
        """What these files say of the cgroup that the container is really in."""
        container = self.status_of("resized")["containerID"].partition("//")[2]
        return {file: self.value(container, file) for file in files}

    def value(self, container: str, file: str) -> str:
        place = hierarchy(file.partition(".")[0])
        found = list(place.glob(f"**/{container}/{file}"))
        self.assertEqual(len(found), 1, f"{file} of {container} in {place}: {found}")
        return found[0].read_text().strip()

    def test_cpu_and_memory_change_in_place(self):
        self.await_pod("resized")
        before = self.status_of("resized")
        self.assertEqual(self.held(SMALL), SMALL)
        wanted = {"cpu": "200m", "memory": "96Mi"}
        self.resize({"limits": wanted, "requests": {"cpu": "150m"}})
        until(lambda: self.status_of("resized").get("resources", {}).get("limits") == wanted, SOON, "the new limits in the status")
        self.assertEqual(self.held(LARGE), LARGE)
        after = self.status_of("resized")
        self.assertEqual((after["containerID"], after["restartCount"]), (before["containerID"], 0))


def hierarchy(controller: str) -> pathlib.Path:
    """Where the cgroups of a controller are mounted: by themselves or with others in version 1, all together in version 2."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        mount, kind = (part.split() for part in line.split(" - ", 1))
        if kind[0] == "cgroup" and controller in kind[-1].split(","):
            return pathlib.Path(mount[4])
    return CGROUPS


CASES = (Containers, Volumes, Users, Resizes)
