"""Other processes: the pod's holder, the runtime's helpers, the node's sockets, keys and terminals."""

import os
import pathlib
import signal
import socket
import subprocess

from attempts import SIGNALS, Attempts, Pod, processes
from wait import until

SHARED = {"namespace_options": {"pid": 0}}
OF_THE_NODE = {"namespace_options": {"pid": 2}}


class SharedProcesses(Attempts):
    """Containers that see others' processes."""

    pod_config = {"linux": {"security_context": SHARED}}

    def test_the_holder_is_killed_from_inside(self):
        """Guard: `pause` handles no signal, so that the kernel lets none of its namespace's reach it (shim/src/pause.rs)."""
        idle = self.pod.idle(f"{self.name}-idle", linux={"security_context": SHARED})
        self.pod.run(self.name, "/probe", "signal", "1", linux={"security_context": SHARED})
        self.assertEqual(self.pod.exec(idle, "echo", "on").strip(), "on")

    def test_cve_2016_9962_who_joins_is_looked_at_by_who_may_trace(self):
        """Guards: `leave_host` in shim/src/exec/join.rs: the process between lets go of the node before a child is born."""
        watching = self.watch(["SYS_PTRACE"])
        for _ in range(25):
            self.pod.exec(watching, "true")
        self.over()

    def test_cve_2016_9962_who_is_being_made_is_traced_by_who_may_trace_in_its_user_namespace(self):
        """Guard: `set_dumpable_behavior` in `begin`, shim/src/parent/stage.rs: the memory of who makes a container is the node's, and
        what is not dumpable is only traced by who may do so there. In the node's own user namespace nothing stops it: shim/README.md."""
        ids = [{"host_id": 200000, "container_id": 0, "length": 65536}]
        context = {"namespace_options": {"pid": 0, "userns_options": {"mode": 0, "uids": ids, "gids": ids}}}
        pod = self.a_pod(linux={"security_context": context})
        self.trace_all(pod, context, ["SYS_PTRACE"])

    def trace_all(self, pod: Pod, context: dict, powers: list[str]) -> None:
        powerful = {**context, "capabilities": {"add_capabilities": powers}}
        pod.start(self.name, "/probe", "trace-newborns", linux={"security_context": powerful})
        until(lambda: "ready" in pod.said(self.name), 20, "it watches")
        for number in range(10):
            container = pod.idle(f"{self.name}-{number}", linux={"security_context": context})
            pod.exec(container, "true")
        (SIGNALS / "end").touch()
        until(lambda: "over" in pod.said(self.name), 20, "the watch is over")
        self.assert_refused(pod.said(self.name))

    def watch(self, powers: list[str]) -> str:
        context = {**SHARED, "capabilities": {"add_capabilities": powers}}
        container = self.pod.start(self.name, "/probe", "newborns", linux={"security_context": context})
        until(lambda: "ready" in self.pod.said(self.name), 20, "it watches")
        return container

    def over(self) -> None:
        (SIGNALS / "end").touch()
        until(lambda: "over" in self.pod.said(self.name), 20, "the watch is over")
        said = self.pod.said(self.name)
        self.assertIn("seen: descriptors", said)
        self.assertNotIn("got: ", said)

    def test_the_runtimes_processes_are_looked_into_from_the_nodes_pid_namespace(self):
        """Guard: `set_dumpable_behavior` in shim/src/server/process.rs: a shim's capabilities are fewer than a default container's."""
        pod = self.a_pod(linux={"security_context": OF_THE_NODE})
        watched = pod.idle(f"{self.name}-idle", linux={"security_context": OF_THE_NODE})
        shims = [str(pid) for pid in processes("corten-shim", "run", watched)]
        daemon = str(self.runtime.service.pid)
        self.assertEqual(len(shims), 1)
        self.assert_refused(pod.run(self.name, "/probe", "look", *shims, daemon, linux={"security_context": OF_THE_NODE}), 14)

    def test_the_runtimes_processes_are_signalled_by_a_user(self):
        """Guard: whom they run as: `become_user` in shim/src/init/process.rs."""
        pod = self.a_pod(linux={"security_context": OF_THE_NODE})
        pids = [str(pid) for pid in (*processes("corten-shim"), self.runtime.service.pid)]
        linux = {"security_context": {**OF_THE_NODE, "run_as_user": {"value": 1000}}}
        self.assert_refused(pod.run(self.name, "/probe", "signal", *pids, linux=linux), 5 * len(pids))
        self.assertTrue(self.runtime.service.running())


class Neighbours(Attempts):
    """The node and other pods, by what has no path."""

    def test_cve_2020_15257_an_abstract_socket_of_the_node_is_reached(self):
        """Guard: the network namespace. With the node's own network there is none of the runtime's: its sockets have paths."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("\0of-the-node")
            listening.listen()
            self.assert_refused(self.pod.run(self.name, "/probe", "connect", "of-the-node"))
            names = [line.split()[-1] for line in pathlib.Path("/proc/net/unix").read_text().splitlines() if line.split()[-1].startswith("@")]
        runtimes = [name for name in names if "corten" in name or "shim" in name or "containerd" in name]
        self.assertEqual(runtimes, [])

    def test_the_session_keyring_is_the_nodes(self):
        """Guard: `new_session` in shim/src/init/process.rs. The daemon's session has a key here."""
        container = self.pod.idle(self.name)
        for said in (self.pod.run(f"{self.name}-run", "/probe", "key", "find", "of-the-node"),
                     self.pod.exec(container, "/probe", "key", "find", "of-the-node")):
            self.assert_refused(said, 2)

    def test_the_session_keyring_is_a_neighbours(self):
        """Guard: as above: its name ends in the container's id."""
        self.pod.start(f"{self.name}-neighbour", "/probe", "key", "add", "of-a-neighbour")
        until(lambda: "got: add key" in self.pod.said(f"{self.name}-neighbour"), 20, "the neighbour has a key")
        self.assert_refused(self.pod.run(self.name, "/probe", "key", "find", "of-a-neighbour"), 2)

    def test_something_is_typed_into_a_terminal_that_is_not_the_containers(self):
        """TIOCSTI. Guard: `setsid` in `new_session`, shim/src/init/process.rs; a terminal is the container's own (`open_pair`)."""
        container = self.pod.idle(self.name)
        for said in (self.pod.run(f"{self.name}-run", "/probe", "type", "/dev/tty", "x"), self.pod.exec(container, "/probe", "type", "/dev/tty", "x")):
            self.assert_refused(said)
        session = "cut -d' ' -f6 /proc/self/stat"
        self.assertNotEqual(self.pod.run(f"{self.name}-session", "sh", "-c", session).strip(), "0")
        self.assertNotEqual(self.pod.exec(container, "sh", "-c", session).strip(), "0")

    def test_a_shim_keeps_what_only_the_making_of_a_container_needs(self):
        """Guard: `confine` in shim/src/confine.rs."""
        container = self.pod.idle(self.name)
        [shim] = processes("corten-shim", "run", container)
        status = pathlib.Path(f"/proc/{shim}/status").read_text()
        for line in ("CapEff:\t0000000000000022", "CapPrm:\t0000000000000022", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            self.assertIn(line + "\n", status)


class Joining(Attempts):
    """Whom an exec joins."""

    def test_an_exec_joins_whoever_has_the_number_of_a_container_that_has_ended(self):
        """Guards, of which one is enough: the pidfd by which the shim joins, `alive` in shim/src/exec/join.rs, the container's state
        and its init's start time in the daemon, and that its cgroup is gone. The daemon sleeps while the container ends and
        another process gets its number: the exec is the first that it hears of, perhaps."""
        container = self.pod.idle(self.name)
        pid = self.pod.pid(container)
        os.kill(self.runtime.service.pid, signal.SIGSTOP)
        try:
            asking = subprocess.Popen(["crictl", "exec", "-s", container, "cat", "/etc/hostname"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            os.kill(pid, signal.SIGKILL)
            until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), 20, "it is reaped")
            other = self.with_number(pid)
        finally:
            os.kill(self.runtime.service.pid, signal.SIGCONT)
        said = asking.communicate(timeout=60)[0]
        other.kill()
        other.wait()
        self.assertNotEqual(asking.returncode, 0, said)
        self.assertNotIn(pathlib.Path("/etc/hostname").read_text().strip() or "(no name)", said)

    def with_number(self, pid: int) -> subprocess.Popen:
        """A process of the node with this number."""
        for _ in range(50):
            pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
            process = subprocess.Popen(["sleep", "60"])
            if process.pid == pid:
                return process
            process.kill()
            process.wait()
        return self.skipTest("the number was not given again")
