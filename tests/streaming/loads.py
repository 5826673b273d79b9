"""Many sessions at once and in a row, clients that do not read, and connections that are reset."""

import hashlib
import os
import subprocess

from on_streams import PORT, SIGNALS, Held, OnStreams, in_reserve
from wait import until

AT_ONCE = 200
# In a row: `--full` takes more.
IN_A_ROW = 500
FULL = 10_000
# What an allocator may keep that a leak would not end at.
SLACK_KB = 4096
CLIENTS = 20
LINES = 2_000_000
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

    def test_many_at_once_then_many_in_a_row_leave_nothing(self):
        for what in (self.execs, self.connections):
            for transport in self.each_transport():
                what(transport, AT_ONCE, AT_ONCE)
                before = self.settled()
                what(transport, self.in_a_row, 1)
                self.not_grown(f"{self.in_a_row} {what.__name__} over {transport}", before)

    def settled(self) -> Held:
        """What is held once all that ended is gone."""
        idle = self.__class__.idle
        until(lambda: Held(self.runtime).descriptors <= idle.descriptors
              and Held(self.runtime).processes <= idle.processes, 20, f"no more than {idle}")
        return Held(self.runtime)

    def not_grown(self, what: str, before: Held) -> None:
        after = self.settled()
        print(f"{what}: {before} before, {after} after", flush=True)
        self.assertLessEqual(after.resident, before.resident + SLACK_KB)

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

    def test_a_storm_of_resets_leaves_the_session(self):
        for transport in self.each_transport():
            self.tally("resets", "--sandbox", self.pod.sandbox, "--transport", transport, "--port", str(PORT),
                       "--count", "300", "--at-once", "20")

    def test_who_does_not_read_is_cut_off_and_the_others_and_the_log_miss_nothing(self):
        script = (f"while [ ! -e /signals/speak ]; do echo ready; usleep 100000; done; seq 1 {LINES};"
                  " while [ ! -e /signals/end ]; do usleep 20000; done")
        container = self.pod.start("speaks", script)
        clients = [self.attach(container) for _ in range(CLIENTS)]
        deaf, hearing = clients[0], clients[1:]
        (SIGNALS / "speak").touch()
        sums = [self.sum(client) for client in hearing]
        for client in hearing:
            client.stdout.close()
        expected = "".join(f"{number}\n" for number in range(1, LINES + 1)).encode()
        until(lambda: self.pod.log("speaks").replace(b"ready\n", b"") == expected, 120, "the log has all lines")
        (SIGNALS / "end").touch()
        heard = [one.communicate(timeout=120)[0].split()[0] for one in sums]
        text = deaf.stdout.read()
        for client in clients:
            client.wait(30)
        missed = sum(one != hashlib.sha256(expected).hexdigest() for one in heard)
        print(f"{missed} of {len(hearing)} missed something; the deaf one got {len(text)} of {len(expected)} bytes", flush=True)
        self.assertEqual(missed, 0, "clients that read have missed something")
        self.assertLess(len(text), len(expected), "the deaf one was cut off")

    def attach(self, container: str) -> subprocess.Popen:
        """A client that is attached: it has heard something."""
        client = subprocess.Popen(
            ["streams", "attach", "--endpoint", self.runtime.endpoint, "--container", container, "--no-stdin"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(client.kill)
        self.assertIn(b"ready\n", os.read(client.stdout.fileno(), 4096))
        return client

    def sum(self, client: subprocess.Popen) -> subprocess.Popen:
        """Reads all that a client hears, but the first words."""
        return subprocess.Popen(["sh", "-c", "grep -v ready | sha256sum"], stdin=client.stdout, stdout=subprocess.PIPE, text=True)
