"""Many sessions at once and in a row, clients that do not read, and connections that are reset."""

import hashlib
import os
import subprocess
from collections.abc import Callable

from on_streams import COUNTING, PORT, RESETTING, SIGNALS, SOME_MEGABYTES, Held, OnStreams, figure, in_reserve, over_each_transport
from wait import until

AT_ONCE = 200
# In a row: `--full` takes more.
IN_A_ROW = 500
FULL = 10_000
# What an allocator may keep that a leak would not end at.
SLACK_KB = 2048
# The same for all shims together. A peer's may do what it likes.
SHIMS_SLACK_KB = 256
CLIENTS = 20
LINES = 3_000_000
# Bytes of the log of so many lines, more than half of them.
MUCH = 100 << 20
# What a daemon that has served each kind of request has started ahead of the next.
RESERVE = {"run", "exec", "dial", "sandbox"}
# So many looks in a row that see the same.
STEADY = 10


class Loads(OnStreams):
    in_a_row = IN_A_ROW

    def execs(self, transport: str, count: int, at_once: int) -> None:
        self.tally("execs", "--container", self.served, "--transport", transport, "--count", str(count),
                   "--at-once", str(at_once), "--", "echo", "hello")

    def connections(self, transport: str, count: int, at_once: int) -> None:
        self.tally("connections", "--sandbox", self.pod.sandbox, "--transport", transport, "--port", str(PORT),
                   "--count", str(count), "--at-once", str(at_once))

    def sessions(self, transport: str, count: int, at_once: int) -> None:
        """Of port-forward: each has a process in the pod's network."""
        self.tally("sessions", "--sandbox", self.pod.sandbox, "--transport", transport, "--port", str(PORT),
                   "--count", str(count), "--at-once", str(at_once))

    @over_each_transport
    def test_many_execs_leave_nothing(self, transport):
        self.leave_nothing(self.execs, transport)

    @over_each_transport
    def test_many_forwarded_connections_leave_nothing(self, transport):
        self.leave_nothing(self.connections, transport)

    @over_each_transport
    def test_many_sessions_of_port_forward_leave_nothing(self, transport):
        self.leave_nothing(self.sessions, transport)

    def leave_nothing(self, what: Callable[[str, int, int], None], transport: str) -> None:
        """Many at once, and then many in a row."""
        what(transport, AT_ONCE, AT_ONCE)
        before = self.settled()
        what(transport, self.in_a_row, 1)
        self.not_grown(f"{self.in_a_row} {what.__name__} over {transport}", before)

    def settled(self) -> Held:
        """What is held once all that ended is gone."""
        idle = self.__class__.idle
        until(lambda: Held(self.runtime).no_more_than(idle), 20, f"no more than {idle}")
        return Held(self.runtime)

    def not_grown(self, what: str, before: Held) -> None:
        after = self.settled()
        print(f"{what}: {before} before, {after} after", flush=True)
        self.assertLessEqual(after.resident, before.resident + SLACK_KB)
        if self.runtime.name == "corten":
            self.assertLessEqual(after.shims, before.shims + SHIMS_SLACK_KB)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # One of each, so that what is made once is there, and what is kept in reserve from then on.
        for words in (["execs", "--container", cls.served, "--", "echo", "hello"],
                      ["connections", "--sandbox", cls.pod.sandbox, "--port", str(PORT)]):
            subprocess.run(["streams", words[0], "--endpoint", cls.runtime.endpoint, *words[1:]],
                           check=True, stdout=subprocess.DEVNULL)
        until(lambda: RESERVE <= in_reserve(), 20, f"{RESERVE} are in reserve")
        seen = [Held(cls.runtime)]

        def steady() -> bool:
            seen.append(Held(cls.runtime))
            return len({one.descriptors for one in seen[-STEADY:]}) == 1 and len(seen) > STEADY

        until(steady, 20, "as many descriptors as a moment ago")
        cls.idle = seen[-1]

    @over_each_transport
    def test_a_storm_of_resets_leaves_the_session(self, transport):
        self.tally("resets", "--sandbox", self.pod.sandbox, "--transport", transport, "--port", str(PORT),
                   "--resetting", str(RESETTING), "--counting", str(COUNTING), "--bytes", str(SOME_MEGABYTES),
                   "--count", "300", "--at-once", "20")

    @over_each_transport
    def test_a_client_ends_its_direction_and_hears_the_pod(self, transport):
        self.tally("counts", "--sandbox", self.pod.sandbox, "--transport", transport, "--counting", str(COUNTING),
                   "--bytes", str(SOME_MEGABYTES), "--count", "40", "--at-once", "10")

    @over_each_transport
    def test_who_does_not_read_is_cut_off_and_the_others_and_the_log_miss_nothing(self, transport):
        speak, end = SIGNALS / f"speak-{transport}", SIGNALS / f"end-{transport}"
        name = f"speaks-{transport}"
        script = (f"while [ ! -e /signals/{speak.name} ]; do echo ready; usleep 100000; done; seq 1 {LINES};"
                  f" while [ ! -e /signals/{end.name} ]; do usleep 20000; done")
        container = self.pod.start(name, script)
        clients = [self.attach(container, transport) for _ in range(CLIENTS)]
        deaf, hearing = clients[0], clients[1:]
        cut = self.cut_off(transport)
        speak.touch()
        sums = [self.sum(client) for client in hearing]
        for client in hearing:
            client.stdout.close()
        # More than a client's connection and pipes hold: who has read nothing so far has been cut off.
        until(lambda: (self.pod.folder / f"{name}.log").stat().st_size > MUCH, 120, f"the log has {MUCH} bytes")
        text, reason = deaf.communicate(timeout=60)
        self.assertIn(b"the container wrote faster than this client has read", reason)
        self.assertNotEqual(deaf.returncode, 0)
        until(lambda: self.cut_off(transport) == cut + 1, 20, "the session is counted as one that was too slow")
        expected = "".join(f"{number}\n" for number in range(1, LINES + 1)).encode()
        until(lambda: self.pod.log(name).replace(b"ready\n", b"") == expected, 120, "the log has all lines")
        end.touch()
        heard = [one.communicate(timeout=120)[0].split()[0] for one in sums]
        for client in clients:
            client.wait(30)
        missed = sum(one != hashlib.sha256(expected).hexdigest() for one in heard)
        print(f"{missed} of {len(hearing)} missed something; the deaf one got {len(text)} of {len(expected)} bytes", flush=True)
        self.assertEqual(missed, 0, "clients that read have missed something")
        self.assertLess(len(text), len(expected), "the deaf one was cut off")

    def cut_off(self, transport: str) -> int:
        return figure("corten_streaming_sessions_ended_total", kind="attach", transport=transport, reason="too_slow")

    def attach(self, container: str, transport: str) -> subprocess.Popen:
        """A client that is attached: it has heard something."""
        client = subprocess.Popen(
            ["streams", "attach", "--endpoint", self.runtime.endpoint, "--container", container,
             "--transport", transport, "--no-stdin"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(client.kill)
        self.assertIn(b"ready\n", os.read(client.stdout.fileno(), 4096))
        return client

    def sum(self, client: subprocess.Popen) -> subprocess.Popen:
        """Reads all that a client hears, but the first words."""
        return subprocess.Popen(["sh", "-c", "grep -v ready | sha256sum"], stdin=client.stdout, stdout=subprocess.PIPE, text=True)
