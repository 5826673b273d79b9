"""Hostile requests and configurations: paths, names, numbers and lines that become something else."""

import io
import subprocess
import tarfile

from attempts import CORE_PATTERN, SECRET, VICTIM, Attempts
from layer import Layer
from wait import until


class Requests(Attempts):
    """What a request says is what is done, or the request is refused."""

    def pod_fails(self, *words: str, **config) -> None:
        def make():
            self.a_pod(**config)
        self.fails(make, "InvalidArgument", *words)

    def test_a_pods_log_directory_leads_elsewhere(self):
        """Guard: `log_directory` in src/cri/request/sandbox.rs."""
        for path in (f"/var/log/../..{VICTIM}", "relative/path", "../x"):
            with self.subTest(path=path):
                self.pod_fails("log_directory", log_directory=path)

    def test_a_containers_log_path_leads_elsewhere(self):
        """Guard: `below` in src/cri/request/check.rs."""
        for path in (f"../../../../..{VICTIM}/made", f"{VICTIM}/made", "c/../../x", "c/.."):
            with self.subTest(path=path):
                self.fails(lambda: self.pod.run(self.name, "true", log_path=path), "InvalidArgument", "log_path")  # noqa: B023

    def test_host_ports_are_none(self):
        """Guard: `port` and `host_ip` in src/cri/request/sandbox.rs. They become words of a firewall's rules."""
        port = {"protocol": 0, "container_port": 80, "host_port": 18080}
        for wrong in ({"host_port": 65536}, {"host_port": -1}, {"container_port": 1 << 20}, {"protocol": 9},
                      {"host_ip": "0.0.0.0/0 -j ACCEPT"}, {"host_ip": "nowhere"}, {"host_ip": "127.0.0.1\n-F"}):
            with self.subTest(wrong=wrong):
                self.pod_fails("port_mappings", port_mappings=[{**port, **wrong}])

    def test_names_are_paths_and_lines(self):
        """Guard: `name` in src/cri/request/check.rs."""
        whole = {"name": self.name, "namespace": "tests", "uid": self.name, "attempt": 1}
        for field in ("name", "namespace", "uid"):
            for wrong in ("../../x", "a/b", "a\nb", "a b", "x" * 5000):
                with self.subTest(field=field, wrong=wrong[:10]):
                    self.pod_fails(metadata={**whole, field: wrong})

    def test_lines_are_added_to_the_pods_own_files(self):
        """Guard: `hostname` and `word`, src/cri/request: lines of /etc/hosts and /etc/resolv.conf."""
        self.pod_fails("hostname", hostname="a\n127.0.0.1 registry")
        self.pod_fails("dns_config", dns_config={"servers": ["10.0.0.1\nnameserver 6.6.6.6"]})
        self.pod_fails("dns_config", dns_config={"options": ["a b"]})

    def test_a_cgroup_is_elsewhere(self):
        """Guard: `without_parent` in src/cri/request/check.rs."""
        self.pod_fails("cgroup_parent", linux={"cgroup_parent": "/kubepods/../../corten/shims"})

    def test_cve_2022_0811_a_sysctl_carries_another_one(self):
        """Guard: src/cri/request/sysctl.rs and `sysctl_path` in shim/src/plan.rs: a value is one write to the one file."""
        self.keep_core_pattern()
        before = CORE_PATTERN.read_text()
        for name, value in (("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/escaped"), ("kernel.core_pattern", "|/escaped"),
                            ("net.ipv4.ip_default_ttl/../../../kernel/core_pattern", "|/escaped"), ("net/../kernel/core_pattern", "|/escaped"),
                            ("net.ipv4/./../kernel.core_pattern", "|/escaped"), ("kernel/shm_rmid_forced\nkernel/core_pattern", "1")):
            with self.subTest(name=name):
                def make(name=name, value=value):
                    self.a_pod(linux={"sysctls": {name: value}})
                self.fails(make)
                self.assertEqual(CORE_PATTERN.read_text(), before)

    def test_profiles_are_elsewhere(self):
        """Guard: `localhost_file` in src/cri/request/security.rs; what is no profile is refused without its text in the message."""
        for path in ("relative", "../x", str(VICTIM / "secret")):
            with self.subTest(path=path):
                linux = {"security_context": {"namespace_options": {"pid": 1}, "seccomp": {"profile_type": 2, "localhost_ref": path}}}
                said = self.fails(lambda: self.pod.run(self.name, "true", linux=linux))  # noqa: B023
                self.assertNotIn(SECRET, said)

    def test_an_images_configuration_overflows(self):
        """Guard: the limits of src/model/image.rs, and the kernel's. The daemon goes on, and says why the container does not."""
        long, many = "x" * (3 << 20), ["x" * 100] * 40_000
        for name, config in (("argument", {"Cmd": ["echo", long]}), ("arguments", {"Cmd": ["true", *many]}), ("variable", {"Env": ["PATH=/bin", f"A={long}"]}),
                             ("directory", {"WorkingDir": "/" + "d/" * 5000}), ("user", {"User": "u" * 100_000}), ("signal", {"StopSignal": "9" * 400}),
                             ("nul", {"Env": ["PATH=/bin", "A=b\0c"]}), ("relative", {"WorkingDir": f"../../..{VICTIM}"})):
            with self.subTest(what=name):
                try:
                    image = self.images.make(f"{self.name}-{name}", Layer(), **config)
                    self.pod.run(f"{self.name}-{name}", image=image)
                except AssertionError as refused:
                    self.assertNotIn("Unavailable", str(refused))
                self.runtime.crictl("version")
        self.assertTrue(self.runtime.service.running())

    def test_layers_lead_out(self):
        """Guards: src/unpack. More of them in tests/images/bad_input.rs, which pulls them: here one of each, by an import."""
        up = "../../../../../../../../../../../.."
        for name, build in (
            ("up", lambda layer: layer.raw(f"{up}{VICTIM}/made", b"x")),
            ("absolute", lambda layer: layer.raw(f"{VICTIM}/made", b"x")),
            ("below-a-link", lambda layer: (layer.symlink("out", str(VICTIM)), layer.raw("out/made", b"x"))),
            ("hard-link", lambda layer: layer.raw_link("stolen", f"{up}{VICTIM}/secret")),
            ("hard-link-through-a-link", lambda layer: (layer.symlink("out", str(VICTIM)), layer.raw_link("stolen", "out/secret"))),
        ):
            with self.subTest(what=name):
                layer = Hostile()
                build(layer)
                try:
                    image = self.images.make(f"{self.name}-{name}", layer)
                    said = self.pod.run(f"{self.name}-{name}", "sh", "-c", "cat /stolen /out/secret", image=image)
                except AssertionError as refused:
                    said = str(refused)
                self.assertNotIn(SECRET, said)


class Hostile(Layer):
    """A layer whose names are written as they are said."""

    def raw(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))

    def raw_link(self, name: str, target: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.LNKTYPE, target
        self._tar.addfile(entry)


class Logs(Attempts):
    """Who may write where the logs are (a volume of /var/log) leads the runtime elsewhere."""

    SAY = ("sh", "-c", "echo spoken; while [ ! -e /signals/end ]; do usleep 20000; done; echo spoken again")

    def test_the_log_is_a_link(self):
        """Guard: NOFOLLOW in `open_file`, shim/src/io/file.rs."""
        (self.pod.folder / f"{self.name}.log").symlink_to(VICTIM / "secret")
        self.spoken_or_refused()

    def test_the_log_is_a_link_to_what_is_not_there(self):
        """Guard: as above."""
        (self.pod.folder / f"{self.name}.log").symlink_to(VICTIM / "made")
        self.spoken_or_refused()

    def test_the_log_is_a_pipe(self):
        """Guard: NONBLOCK and the look at its kind, shim/src/io/file.rs: nobody waits for a reader, no reader gets the log."""
        subprocess.run(["mkfifo", self.pod.folder / f"{self.name}.log"], check=True)
        self.spoken_or_refused()

    def test_the_logs_folder_is_a_link(self):
        """Guard: `below` in shim/src/io/file.rs: no link is followed from the pod's log directory on."""
        (self.pod.folder / self.name).symlink_to(VICTIM)
        self.spoken_or_refused(log_path=f"{self.name}/0.log")

    def test_the_logs_folder_is_below_a_link(self):
        """Guard: as above, where a directory would be made."""
        (self.pod.folder / self.name).symlink_to(VICTIM)
        self.spoken_or_refused(log_path=f"{self.name}/made/0.log")

    def test_the_log_becomes_a_link_when_it_is_rotated(self):
        """Guard: as above, for ReopenContainerLog and the writer that opens the file again."""
        container = self.pod.start(self.name, *self.SAY)
        log = self.pod.folder / f"{self.name}.log"
        until(lambda: "spoken" in log.read_text(), 20, "it has spoken")
        log.rename(log.with_suffix(".1"))
        log.symlink_to(VICTIM / "made")
        self.fails(lambda: self.runtime.crictl("logs", "-r", container))
        (VICTIM.parent / "signals/end").touch()
        until(lambda: self.pod.status(container)["state"] == "CONTAINER_EXITED", 20, "it has ended")

    def spoken_or_refused(self, **config) -> None:
        """Whatever comes of the container, nothing of it is in the victim's files: the clean-up looks."""
        (VICTIM.parent / "signals/end").touch()
        try:
            container = self.pod.start(self.name, *self.SAY, **config)
        except AssertionError:
            return
        until(lambda: self.pod.status(container)["state"] == "CONTAINER_EXITED", 20, "it has ended")
