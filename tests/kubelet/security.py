"""What a pod may: users and groups, capabilities, filters, a read-only root, the node's namespaces; where it may write."""

import pathlib
import stat

from on_kubelet import OnKubelet
from pods import IDLE, main, pod
from wait import until

HOST_NETWORK_PORT = 18081
NET_BIND_SERVICE = 10
DATA = {"name": "data", "mountPath": "/data"}


def secured() -> dict:
    """Users and groups of the pod's; each container has one thing of its own."""
    def one(name: str, **context) -> dict:
        return {**main(IDLE, securityContext=context, volumeMounts=[DATA]), "name": name}

    everybody = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000],
                 "seccompProfile": {"type": "RuntimeDefault"}}
    bind = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    return pod("secured", securityContext=everybody, volumes=[{"name": "data", "emptyDir": {}}], containers=[
        one("main"),
        one("fixed", readOnlyRootFilesystem=True),
        one("bounded", runAsUser=0, capabilities=bind, allowPrivilegeEscalation=False),
        one("open", seccompProfile={"type": "Unconfined"}),
    ])


def of_own_users() -> dict:
    """The kubelet gives it a range of ids, and asks for mapped owners of all that it mounts."""
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "quick", "emptyDir": {"medium": "Memory"}}]
    mounts = [DATA, {"name": "quick", "mountPath": "/quick"}]
    return pod("users", hostUsers=False, securityContext={"fsGroup": 2000}, volumes=volumes,
               containers=[main(IDLE, volumeMounts=mounts)])


def mighty() -> dict:
    return pod("mighty", containers=[main(IDLE, securityContext={"privileged": True})])


def together() -> dict:
    """All containers of the pod are in one PID namespace."""
    peer = {**main("exec sleep 123456"), "name": "peer"}
    return pod("together", shareProcessNamespace=True, terminationGracePeriodSeconds=1, containers=[main(IDLE), peer])


def on_the_host_network() -> dict:
    script = ("mkdir /tmp/pages; echo a page of the node >/tmp/pages/index.html;"
              f" exec httpd -f -p {HOST_NETWORK_PORT} -h /tmp/pages")
    return pod("node-network", hostNetwork=True, terminationGracePeriodSeconds=1, containers=[main(script)])


def in_memory() -> dict:
    volume = {"name": "quick", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}
    return pod("quick", volumes=[volume],
               containers=[main(IDLE, volumeMounts=[{"name": "quick", "mountPath": "/quick"}])])


class InPod(OnKubelet):
    def status_of(self, name: str, container: str, field: str) -> str:
        """A line of /proc/self/status as a process in the container sees it."""
        self.await_running(name, container)
        lines = self.run_in(name, "cat", "/proc/self/status", container=container).splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:"))

    def fails_with(self, text: str, name: str, *words: str, container: str = "main") -> None:
        self.await_running(name, container)

        def refused() -> bool:
            try:
                self.kubelet.run(name, container, *words)
            except AssertionError as error:
                return text in str(error)
            return False

        # A daemon that is being killed fails in other words: asked again.
        until(refused, 30, f"{' '.join(words)} is refused with {text!r}")


class Users(InPod):
    def test_user_and_groups_are_the_pods(self):
        self.assertEqual(self.status_of("secured", "main", "Uid").split(), ["1000"] * 4)
        self.assertEqual(self.status_of("secured", "main", "Gid").split(), ["3000"] * 4)
        self.assertEqual(set(self.status_of("secured", "main", "Groups").split()) - {"3000"}, {"2000", "4000"})

    def test_files_in_a_volume_belong_to_the_fs_group(self):
        self.await_running("secured")
        self.run_in("secured", "touch", "/data/written")
        self.assertEqual(self.run_in("secured", "stat", "-c", "%u:%g", "/data/written"), "1000:2000")


class OwnUsers(InPod):
    def ids(self) -> list[int]:
        """The first id inside, what it is on the node, and how many there are."""
        self.await_running("users")
        return [int(word) for word in self.run_in("users", "cat", "/proc/self/uid_map").split()]

    def test_root_inside_is_nobody_of_the_node(self):
        inside, outside, length = self.ids()
        self.assertEqual((inside, length), (0, 65536))
        self.assertGreaterEqual(outside, 65536)
        self.assertEqual(pathlib.Path(f"/proc/{self.pid('users')}").stat().st_uid, outside)

    def test_all_that_it_is_given_is_its_own(self):
        self.ids()
        for path in ("/", "/data", "/quick", "/etc/hosts", "/dev/termination-log"):
            self.assertEqual(self.run_in("users", "stat", "-c", "%u", path), "0", path)

    def test_what_it_writes_to_a_volume_is_on_the_disk_as_it_sees_it(self):
        self.ids()
        for volume in ("/data", "/quick"):
            self.run_in("users", "touch", f"{volume}/written")
            self.assertEqual(self.run_in("users", "stat", "-c", "%u:%g", f"{volume}/written"), "0:2000")
        files = self.volume("data").glob("written")
        self.assertEqual([file.stat().st_uid for file in files], [0])

    def volume(self, name: str) -> pathlib.Path:
        """Where the kubelet has a volume of the pod; it knows a static pod by the hash of its manifest."""
        found = self.kubelet.pod("users")["metadata"]
        uid = found.get("annotations", {}).get("kubernetes.io/config.hash", found["uid"])
        return pathlib.Path("/var/lib/kubelet/pods", uid, "volumes/kubernetes.io~empty-dir", name)


class Roots(InPod):
    def test_read_only_root_refuses_and_its_volume_takes(self):
        self.fails_with("Read-only file system", "secured", "touch", "/tmp/written", container="fixed")
        self.run_in("secured", "touch", "/data/by-fixed", container="fixed")
        self.assertEqual(self.run_in("secured", "ls", "/data/by-fixed", container="open"), "/data/by-fixed")


class Powers(InPod):
    def test_dropped_capabilities_are_gone_and_the_added_one_is_there(self):
        for field in ("CapEff", "CapBnd", "CapPrm"):
            self.assertEqual(int(self.status_of("secured", "bounded", field), 16), 1 << NET_BIND_SERVICE, field)

    def test_escalation_that_is_not_allowed_is_no_new_privs(self):
        self.assertEqual(self.status_of("secured", "bounded", "NoNewPrivs"), "1")
        self.assertEqual(self.status_of("secured", "main", "NoNewPrivs"), "0")

    def test_runtime_default_filters_and_unconfined_does_not(self):
        self.assertEqual(self.status_of("secured", "main", "Seccomp"), "2")
        self.assertEqual(self.status_of("secured", "open", "Seccomp"), "0")

    def test_runtime_default_refuses_a_new_user_namespace(self):
        self.fails_with("Operation not permitted", "secured", "unshare", "-U", "true")

    def test_privileged_has_all_that_the_node_has(self):
        ours = pathlib.Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0]
        self.assertEqual(self.status_of("mighty", "main", "CapEff"), ours)
        self.assertEqual(self.status_of("mighty", "main", "Seccomp"), "0")
        self.run_in("mighty", "mount", "-t", "tmpfs", "tmpfs", "/home")

    def test_privileged_has_the_nodes_devices(self):
        self.await_running("mighty")
        self.assertLessEqual(block_devices(), set(self.run_in("mighty", "ls", "/dev").split()))


def block_devices() -> set[str]:
    return {path.name for path in pathlib.Path("/dev").iterdir() if stat.S_ISBLK(path.lstat().st_mode)}


class Namespaces(InPod):
    def test_shared_processes_are_seen_and_none_of_them_is_the_first(self):
        self.await_running("together", "peer")
        self.await_running("together")
        peer = self.run_in("together", "pgrep", "-f", "^sleep.123456$")
        self.assertGreater(int(peer), 1)
        self.assertNotIn("sleep", self.run_in("together", "cat", "/proc/1/cmdline"))

    def test_own_processes_only_where_nothing_is_shared(self):
        self.await_running("limited")
        self.assertIn("sh", self.run_in("limited", "cat", "/proc/1/comm"))

    def test_host_network_is_the_nodes(self):
        self.await_running("node-network")
        self.assertEqual(until(lambda: self.page("127.0.0.1", HOST_NETWORK_PORT), 10, "the page"), "a page of the node")
        links = self.run_in("node-network", "ls", "/sys/class/net").split()
        self.assertIn("node0", links)


class Volumes(InPod):
    def test_memory_volume_is_a_tmpfs_of_its_size(self):
        self.await_running("quick")
        mounts = [line.split() for line in self.run_in("quick", "cat", "/proc/mounts").splitlines()]
        quick = next(mount for mount in mounts if mount[1] == "/quick")
        self.assertEqual(quick[2], "tmpfs")
        self.assertIn("size=8192k", quick[3].split(","))

    def test_memory_volume_is_full_at_its_size(self):
        self.fails_with("No space left", "quick", "dd", "if=/dev/zero", "of=/quick/large", "bs=1M", "count=16")
        self.run_in("quick", "rm", "-f", "/quick/large")


PODS = (secured, of_own_users, mighty, together, on_the_host_network, in_memory)
CASES = (Users, OwnUsers, Roots, Powers, Namespaces, Volumes)
