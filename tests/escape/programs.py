"""What a container could get of the runtime's own: its program, its descriptors, its directories."""

import hashlib
import os
import pathlib
import re

from attempts import IDLE, SIGNALS, Attempts, mount, security
from wait import until

SHIM = pathlib.Path(os.environ.get("CORTEN_DIST", "."), "corten-shim")
HIGHEST_DESCRIPTOR = 40
# From a directory above which there is more than the container's root one comes to the machine's name.
LOOK_UP = f"for up in {'../' * 8} {'../' * 9} {'../' * 20}; do echo up: $(cat ${{up}}etc/hostname); done; ls -a ."


def shim() -> tuple[str, int, int]:
    """The program that all containers of the node would run next: content, mode, owner."""
    status = SHIM.stat()
    return hashlib.sha256(SHIM.read_bytes()).hexdigest(), status.st_mode, status.st_uid


class Program(Attempts):
    """CVE-2019-5736: the runtime's program, reached through /proc/PID/exe."""

    # The holder of the shared PID namespace is the runtime's program, and everybody's PID 1.
    pod_config = {"linux": {"security_context": {"namespace_options": {"pid": 0}}}}

    def setUp(self):
        super().setUp()
        before = shim()
        self.addCleanup(lambda: self.assertEqual(shim(), before, "the runtime's program"))

    def test_cve_2019_5736_the_entry_point_is_the_runtimes_own_program(self):
        """Guard: `Program::check` in shim/src/init/program.rs (own program: EPERM)."""
        container = self.pod.create(self.name, "/proc/self/exe", "--version")
        self.fails(lambda: self.runtime.crictl("start", container), "runtime's own program")

    def test_cve_2019_5736_the_entry_point_is_a_script_of_the_runtimes_program(self):
        """Guard: the second `check` in `Program::check` (interpreters), shim/src/init/program.rs."""
        volume = self.volume()
        script = volume / "script"
        script.write_text("#!/proc/self/exe --version\n")
        script.chmod(0o755)
        container = self.pod.create(self.name, "/v/script", mounts=[mount(volume, "/v")])
        self.fails(lambda: self.runtime.crictl("start", container), "runtime's own program")

    def test_cve_2019_5736_an_exec_runs_the_runtimes_own_program(self):
        """Guard: as above, for `corten-shim exec`."""
        container = self.pod.idle(self.name)
        said = self.pod.exec(container, "/proc/self/exe", "--version")
        self.assertIn("runtime's own program", said)

    def test_cve_2019_5736_the_runtimes_program_is_changed_by_who_may_trace(self):
        """Guard: `Program::sealed` in src/task/program.rs: what is started was made unwritable (shim/src/sandbox/sealed.rs)."""
        powers = {"capabilities": {"add_capabilities": ["SYS_PTRACE", "SYS_ADMIN", "LINUX_IMMUTABLE"]}, "namespace_options": {"pid": 0}}
        said = self.pod.run(self.name, "/probe", "program", "1", linux=security(**powers))
        self.assertIn("corten-shim of 1", said)
        self.assert_refused(said, 5)

    def test_cve_2019_5736_names_are_exchanged_while_programs_are_executed(self):
        """Guard: both of the above: who wins the race holds a program that cannot be written."""
        volume = self.volume()
        (volume / "plain").symlink_to("/bin/true")
        (volume / "link").symlink_to("/proc/self/exe")
        powers = {"capabilities": {"add_capabilities": ["SYS_PTRACE"]}, "namespace_options": {"pid": 1}}
        mounts = [mount(volume, "/v")]
        self.pod.start(f"{self.name}-swap", "/probe", "swap", "/v/plain", "/v/link", mounts=mounts)
        watch = f"{self.name}-watch"
        watching = self.pod.start(watch, "/probe", "programs", mounts=mounts, linux=security(**powers))
        until(lambda: "ready" in self.pod.said(watch), 20, "it watches")
        until(lambda: (self.pod.exec(watching, "/v/plain"), "corten-shim of" in self.pod.said(watch))[1], 60, "a program of the runtime's is seen")
        (SIGNALS / "end").touch()
        until(lambda: "over" in self.pod.said(watch), 30, "the watch is over")
        self.assert_refused(self.pod.said(watch), 5)

    def test_cve_2016_9962_the_holder_of_the_pods_processes_is_looked_into(self):
        """Guard: `set_dumpable_behavior` in shim/src/pause.rs."""
        context = {"namespace_options": {"pid": 0}}
        self.assert_refused(self.pod.run(self.name, "/probe", "look", "1", linux=security(**context)), 6)


class Descriptors(Attempts):
    """CVE-2024-21626: a descriptor of the runtime's, or its working directory, that leads to the node."""

    def test_cve_2024_21626_the_working_directory_is_a_descriptor(self):
        """Guards, of which one is enough: `let_go_but` in `become_container` with `close_all_but` in `Become::finish`, and `prove_inside`
        (shim/src/init). Without them it is in the node's cgroup, which leads up to the node's root."""
        for number in range(3, HIGHEST_DESCRIPTOR):
            with self.subTest(descriptor=number):
                self.assert_inside(self.outcome(f"{self.name}-{number}", f"/proc/self/fd/{number}"))

    def outcome(self, name: str, directory: str) -> str:
        """What a container says that looks up from its working directory, where it starts at all."""
        try:
            return self.pod.run(name, "sh", "-c", LOOK_UP, working_dir=directory)
        except AssertionError as refused:
            return str(refused)

    def assert_inside(self, said: str) -> None:
        """From wherever it was one comes up to the pod's own /etc/hostname, or to none."""
        self.assertLessEqual(set(re.findall("^up: (.*)$", said, re.MULTILINE)), {"attacker", ""}, said)
        self.assertNotIn("cgroup.", said)

    def test_cve_2024_21626_an_exec_begins_in_a_descriptor(self):
        """Guards: as above, `let_go_but` being called in `leave_host` (shim/src/exec/join.rs); for the working directory of the image,
        which its execs begin in."""
        volume = self.volume()
        place = volume / "there"
        place.mkdir()
        container = self.pod.start(self.name, *IDLE, working_dir="/v/there", mounts=[mount(volume, "/v")])
        place.rmdir()
        for number in range(3, HIGHEST_DESCRIPTOR):
            with self.subTest(descriptor=number):
                place.symlink_to(f"/proc/self/fd/{number}")
                said = self.pod.exec(container, "sh", "-c", LOOK_UP)
                place.unlink()
                self.assert_inside(said)

    def test_cve_2024_21626_nothing_of_the_nodes_is_left_open(self):
        """Guards, of which one is enough: CLOEXEC wherever something is opened; `let_go_but` and `close_all_but`, as above."""
        list_all = "for f in /proc/1/fd/* /proc/self/fd/*; do readlink $f; done; true"
        container = self.pod.idle(self.name)
        said = self.pod.exec(container, "sh", "-c", list_all)
        strange = [line for line in said.split() if not line.startswith(("pipe:", "/dev/null", "/proc/", "socket:", "anon_inode:[pidfd"))]
        self.assertEqual(strange, [])

    def test_cve_2016_9962_an_init_that_waits_has_nothing_of_the_nodes(self):
        """Guards: `let_go_but` and `close_all_but` (shim/src/init), and `mounts::pivot`. Held against the node's own view."""
        container = self.pod.create(self.name, "true")
        folder = pathlib.Path(f"/proc/{self.pod.pid(container)}")
        links = {os.readlink(one) for one in (folder / "fd").iterdir()}
        kinds = {link.split(":")[0] for link in links}
        self.assertLessEqual(kinds, {"pipe", "socket", "/dev/null"}, links)
        self.assertFalse((folder / "root" / os.environ["CORTEN_NODE"].lstrip("/")).exists(), "its root is the node's")
