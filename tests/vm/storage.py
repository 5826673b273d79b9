"""A file system with project quotas and fs-verity as Corten's root: an ext4 on a disk of its own (`data` of machine.py).

What the kernel counts and has sealed is asked of it here, too, by its own calls.
"""

import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import struct
import subprocess
import unittest

import leftovers
from cases import Pod
from installed import InstalledCorten
from wait import until

DISK, MOUNTED = "/dev/disk/by-id/virtio-data", pathlib.Path("/data")
ROOT = MOUNTED / "corten"
DROP_IN = pathlib.Path("/etc/corten/corten.toml.d/storage.toml")
FEATURES = ("-O", "quota,project,verity", "-E", "quotatype=prjquota")
DISK_BYTES = 512 << 20
#: For what an emulated disk has to read and write.
PATIENCE = 300
#: linux/fs.h, linux/fsverity.h, linux/quota.h
FS_IOC_GETFLAGS, FS_VERITY_FL, FS_IOC_FSGETXATTR = 0x80086601, 0x00100000, 0x801C581F
SYS_QUOTACTL_FD, GET_PROJECT_QUOTA = 443, 0x80000702
QUOTA = struct.Struct("8QI4x")
MB = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def make_disk(path: pathlib.Path) -> None:
    """On the host, for who starts the machine."""
    with open(path, "wb") as disk:
        disk.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", *FEATURES, path], check=True)


def project_of(directory: pathlib.Path) -> int:
    """The project that a directory belongs to."""
    with Opened(directory) as fd:
        return struct.unpack("4I12x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))[3]


def counted(project: int) -> tuple[int, int]:
    """Bytes and inodes of a project, as `repquota -P` has them."""
    quota = ctypes.create_string_buffer(QUOTA.size)
    with Opened(MOUNTED) as fd:
        if _libc.syscall(SYS_QUOTACTL_FD, fd, GET_PROJECT_QUOTA, project, quota) < 0:
            raise OSError(ctypes.get_errno(), "quotactl_fd")
    fields = QUOTA.unpack(quota.raw)
    return fields[2], fields[5]


def is_sealed(path: pathlib.Path) -> bool:
    """Whether it has what `lsattr` shows as V."""
    with Opened(path) as fd:
        return bool(struct.unpack("I", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)))[0] & FS_VERITY_FL)


class Opened:
    """A descriptor of a path, closed at the end."""

    def __init__(self, path: pathlib.Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_) -> None:
        os.close(self.fd)


def taken(*trees: pathlib.Path) -> tuple[int, int]:
    """Bytes and inodes of trees, themselves too, each inode once."""
    stats = [path.lstat() for tree in trees for path in (tree, *tree.rglob("*"))]
    blocks = {stat.st_ino: stat.st_blocks for stat in stats}
    return sum(blocks.values()) * 512, len(blocks)


class Storage(unittest.TestCase):
    """The installed daemon with its root there, for as long as these tests run."""

    runtime: InstalledCorten
    root = ROOT

    @classmethod
    def setUpClass(cls):
        MOUNTED.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "ext4", "-o", "prjquota", DISK, MOUNTED], check=True)
        cls.addClassCleanup(subprocess.run, ["umount", MOUNTED], check=True)
        cls.mount()
        DROP_IN.parent.mkdir(exist_ok=True)
        DROP_IN.write_text(f'root = "{cls.root}"\n[images]\nfs_verity = true\n')
        cls.addClassCleanup(cls.as_before)
        cls.runtime.service.restart()
        cls.runtime.await_ready()
        cls.runtime.crictl("pull", leftovers.IMAGE)

    @classmethod
    def mount(cls):
        """What else is to be mounted."""

    @classmethod
    def as_before(cls):
        cls.runtime.service.stop()
        DROP_IN.unlink()
        cls.runtime.service.start()
        cls.runtime.await_ready()


class ProjectQuota(Storage):
    """What a container writes is counted by the kernel, and told as it is at that moment."""

    def told(self, pod: Pod) -> tuple[int, int]:
        (stats,) = json.loads(self.runtime.crictl("stats", "-o", "json", pod.container))["stats"]
        layer = stats["writableLayer"]
        return int(layer["usedBytes"]["value"]), int(layer["inodesUsed"]["value"])

    def test_what_a_container_writes_is_told_exactly_and_at_once(self):
        pod = Pod(self.runtime, "writes", {})
        removed = []
        self.addCleanup(lambda: removed or pod.remove())
        folder = ROOT / "containers" / pod.container
        upper, work = folder / "upper", folder / "work"
        project = project_of(upper)
        self.assertGreaterEqual(project, 1 << 30)
        self.assertEqual(project_of(work), project)
        before = self.told(pod)
        self.assertEqual(before, counted(project))
        pod.inside("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=10 2>/dev/null; sync")
        big = self.told(pod)
        self.assertEqual(big, counted(project))
        self.assertEqual(big[1], before[1] + 1)
        self.assertIn(big[0] - before[0] - 10 * MB, range(0, 65536))
        many = "mkdir /many; i=0; while [ $i -lt 100 ]; do echo $i >/many/$i; i=$((i+1)); done; sync"
        pod.inside("sh", "-c", many)
        all_of_it = self.told(pod)
        self.assertEqual(all_of_it, counted(project))
        self.assertEqual(all_of_it[1], big[1] + 101)
        self.assertEqual(all_of_it, taken(upper, work))
        pod.inside("sh", "-c", "rm -r /big /many; sync")
        self.assertLess(self.told(pod)[0], MB)
        pod.remove()
        removed.append(pod)
        until(lambda: counted(project) == (0, 0), PATIENCE, "nothing of the project is left")

    def test_two_containers_are_two_projects(self):
        pods = [Pod(self.runtime, name, {}) for name in ("one", "two")]
        for pod in pods:
            self.addCleanup(remove_alone, pod)
        one, two = (project_of(ROOT / "containers" / pod.container / "upper") for pod in pods)
        self.assertNotEqual(one, two)
        pods[0].inside("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=5 2>/dev/null; sync")
        self.assertGreaterEqual(self.told(pods[0])[0], 5 * MB)
        self.assertLess(self.told(pods[1])[0], MB)


def remove_alone(pod: Pod) -> None:
    """One of several pods: the cgroup above goes with the last."""
    pod.runtime.crictl("stopp", pod.sandbox)
    pod.runtime.crictl("rmp", pod.sandbox)
    for folder in (pod.cgroup.parent, pod.cgroup.parent.parent):
        if not [path for path in folder.iterdir() if path.is_dir()]:
            folder.rmdir()


class Verity(Storage):
    """Layers are sealed in the background; a file that is not any more is found and mended."""

    def files(self) -> list[pathlib.Path]:
        trees = (ROOT / "layers").glob("[0-9a-f]*/fs")
        return sorted(path for tree in trees for path in tree.rglob("*") if path.is_file() and not path.is_symlink())

    def sealed(self) -> bool:
        records = [json.loads(path.read_text()) for path in (ROOT / "layers").glob("[0-9a-f]*/record.json")]
        return bool(records) and all(record.get("verity") for record in records)

    def check(self, *words: str) -> tuple[int, list[dict]]:
        done = subprocess.run(
            ["corten", "image", "check", "--output", "json", *words], capture_output=True, text=True, check=False
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, [line for line in lines if "fault" in line]

    def used(self) -> tuple[int, int]:
        (images,) = json.loads(self.runtime.crictl("imagefsinfo", "-o", "json"))["status"]["imageFilesystems"]
        return int(images["usedBytes"]["value"]), int(images["inodesUsed"]["value"])

    def test_layers_are_sealed_and_a_file_that_is_not_is_mended(self):
        until(self.sealed, PATIENCE, "the layers are sealed")
        self.assertTrue(self.files())
        self.assertEqual([path for path in self.files() if not is_sealed(path)], [])
        for path in self.files()[:5]:
            with self.assertRaises(PermissionError, msg=str(path)):
                os.open(path, os.O_WRONLY)
        trees = [tree.parent for tree in (ROOT / "layers").glob("[0-9a-f]*/fs")]
        blobs = [path for room in ("blobs", "records") for path in (ROOT / "images" / room).iterdir()]
        self.assertEqual(self.used(), taken(*trees, *blobs))
        self.assertEqual(self.check(), (0, []))
        victim = max(self.files(), key=lambda path: path.stat().st_size)
        before = victim.stat()
        equal = victim.with_name(".equal")
        shutil.copy2(victim, equal)
        os.chown(equal, before.st_uid, before.st_gid)
        for name in [path for path in self.files() if path.stat().st_ino == before.st_ino]:
            name.unlink()
            os.link(equal, name)
        equal.unlink()
        status, found = self.check()
        self.assertEqual((status, {one["fault"] for one in found}), (1, {"changed"}))
        self.assertIn("not sealed by fs-verity", found[0]["detail"])
        status, _ = self.check("--repair")
        self.assertEqual(status, 0)
        until(self.sealed, PATIENCE, "the new layer is sealed")
        self.assertTrue(is_sealed(victim))
        self.assertEqual(self.check(), (0, []))
        self.runtime.crictl("rmi", leftovers.IMAGE)
        until(lambda: not self.files(), PATIENCE, "sealed layers are removed")


class SplitRoot(Storage):
    """Writable layers on a file system of their own, which counts them."""

    root = pathlib.Path("/var/lib/corten-apart")

    @classmethod
    def mount(cls):
        """The images stay on the node's own disk."""
        inner, place = MOUNTED / "containers", cls.root / "containers"
        for folder in (inner, place):
            folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", inner, place], check=True)
        cls.addClassCleanup(subprocess.run, ["umount", place], check=True)

    def test_writable_layers_are_told_apart_from_images(self):
        pod = Pod(self.runtime, "apart", {})
        self.addCleanup(pod.remove)
        folder = self.root / "containers" / pod.container
        pod.inside("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=7 2>/dev/null; sync")
        wanted = counted(project_of(folder / "upper"))
        self.assertGreater(wanted[0], 7 * MB)
        status = json.loads(self.runtime.crictl("imagefsinfo", "-o", "json"))["status"]
        (images,), (containers,) = status["imageFilesystems"], status["containerFilesystems"]
        self.assertEqual(tuple(int(containers[name]["value"]) for name in ("usedBytes", "inodesUsed")), wanted)
        self.assertEqual(pathlib.Path(containers["fsId"]["mountpoint"]), self.root / "containers")
        self.assertTrue(pathlib.Path(images["fsId"]["mountpoint"]).is_relative_to(self.root))


CASES = (ProjectQuota, Verity, SplitRoot)
