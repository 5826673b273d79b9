"""Paths: links of images and volumes, what is hidden, kernel files, devices."""

import os
import pathlib
import subprocess
import unittest

from attempts import IDLE, SECRET, VICTIM, Attempts, mount, security
from layer import Layer


def host_mounts() -> list[str]:
    return pathlib.Path("/proc/self/mountinfo").read_text().splitlines()


class Devices(Attempts):
    """What hides files, and terminals: CVE-2025-31133, CVE-2025-52565."""

    def setUp(self):
        super().setUp()
        self.keep_core_pattern()

    def test_cve_2025_31133_the_null_device_is_a_link_to_a_kernel_file(self):
        """Guard: `prove_null` in `null`, shim/src/init/paths.rs. Without it the masks show the kernel file, writable."""
        volume = self.volume()
        (volume / "null").symlink_to("/proc/sys/kernel/core_pattern")
        self.try_masks(volume)

    def test_cve_2025_31133_the_null_device_is_a_file(self):
        """Guard: as above."""
        volume = self.volume()
        (volume / "null").write_text("not a device")
        self.try_masks(volume)

    def try_masks(self, volume: pathlib.Path) -> None:
        make = lambda: self.pod.run(self.name, "cat", "/proc/kcore", mounts=[mount(volume, "/dev")])  # noqa: E731
        self.fails(make, "/dev/null", "not the null device")

    def test_cve_2025_52565_the_console_is_a_link_to_a_kernel_file(self):
        """Guards, of which one is enough: `destination` and `find_plain` in `terminal::open`, shim/src/init/terminal.rs. Without them
        the terminal is over the kernel file."""
        volume = self.device_folder()
        (volume / "console").symlink_to("/proc/sys/kernel/core_pattern")
        mounts = [mount(volume, "/dev"), mount("/dev/pts", "/dev/pts")]
        make = lambda: self.pod.start(self.name, *IDLE, mounts=mounts, tty=True)  # noqa: E731
        self.fails(make, "/dev/console")

    def test_cve_2025_52565_the_terminals_are_elsewhere(self):
        """Guard: the `fstatfs` of `open_pair`, shim/src/init/terminal.rs."""
        volume = self.device_folder()
        (volume / "pts").rmdir()
        (volume / "pts").symlink_to("/v")
        mounts = [mount(self.volume("v"), "/v"), mount(volume, "/dev")]
        self.fails(lambda: self.pod.start(self.name, *IDLE, mounts=mounts, tty=True), "no devpts")

    def device_folder(self) -> pathlib.Path:
        volume = self.volume()
        (volume / "pts").mkdir()
        subprocess.run(["mknod", volume / "null", "c", "1", "3"], check=True)
        return volume

    def test_devices_of_the_node_are_made_and_opened(self):
        """Guard: the device rules (shim/src/cgroup/devices.rs). A container may make nodes; opening them is refused."""
        context = security(capabilities={"add_capabilities": ["MKNOD"]})
        for kind, first, second in (("c", 1, 1), ("c", 1, 2), ("c", 1, 4), ("c", 10, 200 + 37), ("b", 7, 0), ("b", 8, 0), ("b", 254, 0)):
            with self.subTest(device=f"{kind} {first}:{second}"):
                said = self.pod.run(f"{self.name}-{kind}-{first}-{second}", "/probe", "device", kind, str(first), str(second), linux=context)
                self.assert_refused(said)

    def test_a_file_is_opened_by_its_number(self):
        """The "shocker" of 2014. Guard: CAP_DAC_READ_SEARCH is none of the default capabilities (src/model/spec/capabilities.rs)."""
        self.assert_refused(self.pod.run(self.name, "/probe", "handle", "/probe"))

    def test_a_chroot_is_climbed_out_of(self):
        """Guard: `pivot` in shim/src/init/mounts.rs. In a root that is only a chroot one climbs to the node's."""
        context = security(capabilities={"add_capabilities": ["SYS_CHROOT"]})
        self.assert_refused(self.pod.run(self.name, "/probe", "climb", linux=context))


class Kernel(Attempts):
    """Kernel files: CVE-2025-52881, CVE-2022-0492, CVE-2019-16884, and what is hidden."""

    FILES = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/sys/vm/panic_on_oom",
             "/proc/irq/0/smp_affinity", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/release_agent")

    def setUp(self):
        super().setUp()
        self.keep_core_pattern()

    def test_kernel_files_are_written(self):
        """Guard: the read-only and masked paths (`make_read_only` and `mask`, shim/src/init/paths.rs), sysfs read-only."""
        container = self.pod.idle(self.name)
        for said in (self.pod.run(f"{self.name}-run", "/probe", "write", "0", *self.FILES),
                     self.pod.exec(container, "/probe", "write", "0", *self.FILES)):
            self.assert_refused(said, len(self.FILES))

    def test_what_is_hidden_is_uncovered(self):
        """Guard: as above, and no CAP_SYS_ADMIN."""
        script = ("umount /proc/kcore; umount /proc/sys; mount -o remount,rw /proc/sys; mount -o bind,remount,rw /sys;"
                  " mount -t proc proc /tmp; cat /proc/kcore | head -c 4 | wc -c; wc -c </proc/timer_list; ls /proc/scsi /proc/acpi | grep -v :;"
                  " /probe write 0 /proc/sys/kernel/core_pattern")
        said = self.pod.run(self.name, "sh", "-c", script)
        self.assert_refused(said)
        numbers = [line for line in said.splitlines() if line.strip().isdigit()]
        self.assertEqual(numbers, ["0", "0"], said)

    def test_a_proc_of_ones_own_is_mounted_in_a_new_user_namespace(self):
        """Guard: the masks: the kernel gives no whole procfs to whom it shows none. Step::Mask in shim/src/plan.rs."""
        self.assert_refused(self.pod.run(self.name, "/probe", "proc"))

    @unittest.skipUnless(os.path.isdir("/sys/fs/cgroup/memory"), "only cgroup v1 has a release_agent")
    def test_cve_2022_0492_the_release_agent_is_written_from_a_new_namespace(self):
        """Guard: a container is in a cgroup of its own in each hierarchy (`Cgroup::enter`, shim/src/cgroup/mod.rs): the file is in
        none but a hierarchy's root. The kernel refuses since 5.17 as well, and a node of the tests has no such root: so the node looks."""
        self.assert_refused(self.pod.run(self.name, "/probe", "cgroups"), 3)
        container = self.pod.idle(f"{self.name}-idle")
        for line in pathlib.Path(f"/proc/{self.pod.pid(container)}/cgroup").read_text().splitlines():
            self.assertTrue(line.endswith(f"/{container}"), line)

    @unittest.skipUnless(os.path.isdir("/sys/fs/cgroup/memory"), "only cgroup v1 has these files")
    def test_cve_2022_0492_the_containers_own_cgroup_is_written(self):
        """Guard: `ro` of the cgroup mount in src/model/spec/mounts.rs."""
        script = ("for f in /sys/fs/cgroup/*/notify_on_release /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/devices/devices.allow;"
                  " do /probe write 1 $f; done; mkdir /sys/fs/cgroup/memory/escaped && echo got: mkdir")
        self.assert_refused(self.pod.run(self.name, "sh", "-c", script), 5)

    def test_cve_2025_52881_volumes_are_mounted_inside_proc(self):
        """Guard: `destination` in shim/src/init/mounts.rs (fstatfs of the place). CVE-2019-16884, CVE-2023-27561 are of the kind."""
        volume = self.volume()
        (volume / "exec").write_text("")
        (volume / "to-proc").symlink_to("/proc")
        (volume / "to-self").symlink_to("../proc/self")
        places = ("/proc/self", "/proc/self/attr", "/proc/self/attr/exec", "/proc/sys/kernel", "/proc/1/../self/attr",
                  "/tmp/../proc/self", "/v/to-proc/self/attr", "/v/to-self")
        for number, place in enumerate(places):
            with self.subTest(place=place):
                mounts = [mount(volume, "/v"), mount(volume / "exec" if place.endswith("exec") else volume, place)]
                self.fails(lambda: self.pod.run(f"{self.name}-{number}", "true", mounts=mounts), "leads into /proc")  # noqa: B023

    def test_cve_2025_52881_and_2023_27561_proc_and_sys_are_links_of_the_image(self):
        """Guard: `plain_destination` in shim/src/init/mounts.rs."""
        for name in ("proc", "sys"):
            with self.subTest(link=name):
                layer = Layer()
                layer.symlink(name, "/tmp")
                image = self.images.make(f"{name}-is-a-link", layer)
                said = self.fails(lambda: self.pod.run(f"{self.name}-{name}", "true", image=image))  # noqa: B023
                self.assertIn("symbolic link of the image", said)


class Links(Attempts):
    """Links of an image, absolute and with any number of `..`, where the runtime makes and mounts things."""

    UP = "../../../../../../../../../.."

    def image(self, links: dict[str, str], **config) -> str:
        layer = Layer()
        for name, target in links.items():
            layer.symlink(name, target)
        return self.images.make(self.name, layer, **config)

    def test_a_volume_is_mounted_below_a_link_of_the_image(self):
        """Guard: `RESOLVE_IN_ROOT` in `Root::open`, shim/src/root.rs. Without it a directory is made on the node."""
        image = self.image({"absolute": str(VICTIM), "up": self.UP + str(VICTIM), "dangling": f"{VICTIM}/new/er"})
        volume = self.volume()
        mounts = [mount(volume, place) for place in ("/absolute/made", "/up/made-too", "/dangling/and/deeper")]
        self.pod.run(self.name, "sh", "-c", "touch /absolute/made/x", image=image, mounts=mounts)
        self.assertEqual([path.name for path in volume.iterdir()], ["x"])

    def test_the_pods_own_files_are_links_of_the_image(self):
        """Guard: as above (/etc/hosts, /etc/hostname, /etc/resolv.conf, /dev/shm). CVE-2024-5154 is of the kind."""
        image = self.image({"etc/hosts": f"{VICTIM}/secret", "etc/hostname": f"{VICTIM}/made", "etc/resolv.conf": self.UP + f"{VICTIM}/secret"})
        said = self.run_or_refused(image, "cat /etc/hosts /etc/resolv.conf")
        self.assertNotIn(SECRET, said)

    def test_etc_and_dev_are_links_of_the_image(self):
        """Guard: as above."""
        image = self.image({"etc": str(VICTIM), "dev": self.UP + str(VICTIM)})
        said = self.run_or_refused(image, "cat /etc/secret /dev/secret; ls -a /etc /dev")
        self.assertNotIn(SECRET, said)

    def run_or_refused(self, image: str, script: str, **config) -> str:
        try:
            return self.pod.run(self.name, "sh", "-c", script, image=image, **config)
        except AssertionError as refused:
            return str(refused)

    def test_the_working_directory_is_below_a_link_of_the_image(self):
        """Guard: as above (`make_working_directory`, shim/src/init/paths.rs)."""
        image = self.image({"out": str(VICTIM)}, WorkingDir="/out/made/here")
        said = self.run_or_refused(image, "pwd; cat /out/secret ../../secret")
        self.assertNotIn(SECRET, said)

    def test_hidden_and_read_only_paths_are_links_of_the_image(self):
        """Guard: as above (`mask` and `make_read_only`, shim/src/init/paths.rs): the node's file is not what gets covered."""
        image = self.image({"hidden": f"{VICTIM}/secret", "fixed": str(VICTIM)})
        linux = security(masked_paths=["/hidden"], readonly_paths=["/fixed"])
        before = host_mounts()
        self.assertNotIn(SECRET, self.run_or_refused(image, "cat /hidden /fixed/secret", linux=linux))
        self.assertEqual(host_mounts(), before)

    def test_cve_2022_23648_a_volume_of_the_image_is_elsewhere(self):
        """What an image lists in `Volumes` is no path of the node's: Corten makes nothing of it (src/model/image.rs)."""
        volumes = {f"/..{VICTIM}": {}, str(VICTIM): {}, f"/{self.UP}{VICTIM}": {}}
        image = self.image({}, Volumes=volumes)
        said = self.run_or_refused(image, f"cat {VICTIM}/secret {self.UP}{VICTIM}/secret")
        self.assertNotIn(SECRET, said)

    def test_an_image_as_a_volume_leads_out(self):
        """Guard: `find` in shim/src/parent/volumes.rs, inside the image's own root."""
        image = self.image({"out": str(VICTIM), "up": self.UP + str(VICTIM)})
        for path in ("out", "up", "out/secret"):
            with self.subTest(path=path):
                mounts = [{"container_path": "/image", "readonly": True, "image": {"image": image}, "image_sub_path": path}]
                name = f"{self.name}-{path.replace('/', '-')}"
                said = self.fails(lambda: self.pod.run(name, "cat", "/image", "/image/secret", mounts=mounts))  # noqa: B023
                self.assertNotIn(SECRET, said)


class Volumes(Attempts):
    """A volume of which another container is the master: CVE-2021-30465."""

    def test_cve_2021_30465_a_volume_is_mounted_below_a_link_in_another_volume(self):
        """Guard: `RESOLVE_IN_ROOT` in `Root::open`, shim/src/root.rs."""
        shared, volume = self.volume("shared"), self.volume()
        (shared / "absolute").symlink_to(VICTIM)
        (shared / "up").symlink_to("../../../../../../../.." + str(VICTIM))
        (shared / "file").symlink_to(VICTIM / "made")
        mounts = [mount(shared, "/v"), mount(volume, "/v/absolute/made"), mount(volume, "/v/up/made")]
        self.pod.run(self.name, "touch", "/v/absolute/made/x", mounts=mounts)
        self.assertEqual([path.name for path in volume.iterdir()], ["x"])
        mounts = [mount(shared, "/v"), mount(VICTIM.parent / "probe", "/v/file")]
        self.fails(lambda: self.pod.run(f"{self.name}-file", "true", mounts=mounts), "/v/file")

    def test_cve_2021_30465_a_directory_is_exchanged_for_a_link_while_mounts_are_made(self):
        """Guard: as above: a place is found and used through one descriptor. Tried on many containers, while another one swaps."""
        shared, volume = self.volume("shared"), self.volume()
        (shared / "place").mkdir()
        (shared / "link").symlink_to(VICTIM)
        before = host_mounts()
        self.pod.start(f"{self.name}-swap", "/probe", "swap", "/v/place", "/v/link", mounts=[mount(shared, "/v")])
        for number in range(15):
            mounts = [mount(shared, "/v"), mount(volume, "/v/place/below"), mount(volume, "/v/link/below")]
            try:
                said = self.pod.run(f"{self.name}-{number}", "sh", "-c", "cat /v/place/secret /v/link/secret; ls /v/place/ /v/link/", mounts=mounts)
            except AssertionError as refused:
                said = str(refused)
            self.assertNotIn(SECRET, said)
        self.assertEqual(host_mounts(), before)

    def test_a_volumes_mounts_do_not_show_on_the_node(self):
        """Guard: `detach_from_host` and the private clone in `attach_root`, shim/src/init/mounts.rs."""
        pod = self.a_pod(linux={"security_context": {"privileged": True}})
        before = host_mounts()
        pod.idle(self.name, mounts=[mount(self.volume(), "/v")], linux=security(privileged=True))
        self.assertEqual(host_mounts(), before)
