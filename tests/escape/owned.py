"""Whom a container's processes run as: users, groups and capabilities that are not theirs."""

import os
import pathlib
import tarfile

from attempts import VICTIM, Attempts, mount, security
from layer import Layer

PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
# What the runtime reads of such a file ends at a MiB.
LONG = b"#" * 1023 + b"\n"
INHERITABLE = r"grep ^Cap /proc/self/status"


def users(name: str, passwd: bytes) -> Layer:
    layer = Layer()
    layer.file("etc/passwd", passwd)
    layer.file("etc/group", b"root:x:0:\nhuge:x:4294967296:\nwrapped:x:4294967295:\n")
    return layer


class Special(Layer):
    """A layer with what is no file."""

    def special(self, name: str, kind: bytes) -> None:
        """A pipe, or the device of the kernel's log, which has an end that one waits at."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.devmajor, entry.devminor, entry.mode = kind, 1, 11, 0o644
        self._tar.addfile(entry)


class Users(Attempts):
    """A hostile /etc/passwd, and ids that are too large: CVE-2024-40635."""

    def with_user(self, name: str, user: str, layer: Layer) -> str:
        image = self.images.make(f"{self.name}-{name}", layer, User=user)
        try:
            return self.pod.run(f"{self.name}-{name}", "id", image=image)
        except AssertionError as refused:
            return str(refused)

    def test_cve_2024_40635_an_id_wraps_around_to_root(self):
        """Guards: `bounded` and `number` in shim/src/user.rs; `user_and_group` of the image, src/model/image.rs, for what is no id at all."""
        passwd = (PASSWD + "".join(f"{name}:x:{uid}:0::/:/bin/sh\n" for name, uid in
                  (("wrap", 4294967296), ("last", 4294967295), ("half", 2147483648), ("minus", -1), ("4294967296", 0)))).encode()
        for number, user in enumerate(("4294967296", "4294967295", "2147483648", "-1", "18446744073709551616", "wrap", "last", "half", "minus",
                                       "1000:4294967296", "1000:huge", "1000:wrapped", "0x0", "+0", "1000:-1")):
            with self.subTest(user=user):
                said = self.with_user(str(number), user, users(user, passwd))
                self.assertNotIn("uid=", said)

    def test_cve_2024_40635_ids_of_a_request_are_too_large(self):
        """Guard: `user_or_group` in src/cri/request/check.rs."""
        for field, value in (("run_as_user", -1), ("run_as_user", 1 << 32), ("run_as_user", (1 << 32) - 1), ("run_as_user", (1 << 63) - 1)):
            with self.subTest(field=field, value=value):
                linux = security(**{field: {"value": value}})
                self.fails(lambda: self.pod.run(f"{self.name}-{value}", "id", linux=linux), "InvalidArgument")  # noqa: B023
        linux = security(run_as_user={"value": 1000}, supplemental_groups=[1 << 32])
        self.fails(lambda: self.pod.run(f"{self.name}-groups", "id", linux=linux), "InvalidArgument")

    def test_an_account_is_named_like_a_number(self):
        """Guard: `find_user` in shim/src/user.rs looks a number up by number only."""
        passwd = (PASSWD + "1000:x:0:0::/root:/bin/sh\n").encode()
        self.assertIn("uid=1000", self.with_user("named", "1000", users("named", passwd)))

    def test_passwd_is_a_link_to_the_nodes(self):
        """Guard: `Root::read`, shim/src/root.rs (RESOLVE_IN_ROOT)."""
        layer = Layer()
        layer.symlink("etc/passwd", "../../../../../../.." + str(VICTIM / "secret"))
        layer.symlink("etc/group", str(VICTIM / "secret"))
        (VICTIM / "secret").write_text("evil:x:0:0::/:/bin/sh\n")
        said = self.with_user("link", "evil", layer)
        (VICTIM / "secret").write_text("the node's secret")
        self.assertIn("no user evil", said)

    def test_passwd_is_a_pipe(self):
        """Guard: the look at its kind in `Root::read`, shim/src/root.rs: what is in the volume's stays there. Where that is left out as
        well as NONBLOCK in `reopen`, the create waits for who writes into the image's."""
        pipe = self.volume() / "passwd"
        os.mkfifo(pipe)
        end = os.open(pipe, os.O_RDWR)
        self.addCleanup(os.close, end)
        self.is_not_read(pipe, tarfile.FIFOTYPE, end, end)

    def test_passwd_is_a_device(self):
        """Guard: as above: what is typed at a terminal, and the kernel's log."""
        outer, inner = os.openpty()
        self.addCleanup(os.close, outer)
        self.addCleanup(os.close, inner)
        self.is_not_read(os.ttyname(inner), tarfile.CHRTYPE, outer, inner)

    def is_not_read(self, volume: pathlib.Path | str, in_the_image: bytes, to: int, of: int) -> None:
        """The create sees what the image has there, the exec what the volume has: a line that nobody but the test may take."""
        os.write(to, b"a line\n")
        layer = Special()
        layer.special("etc/passwd", in_the_image)
        image = self.images.make(self.name, layer, Env=["PATH=/bin"])
        linux = security(run_as_user={"value": 1000})
        container = self.pod.idle(self.name, image=image, mounts=[mount(volume, "/etc/passwd")], linux=linux)
        self.assertIn("Uid:\t1000\t1000\t1000\t1000", self.pod.exec(container, "cat", "/proc/self/status"))
        os.set_blocking(of, False)
        self.assertEqual(os.read(of, 100), b"a line\n")

    def test_passwd_is_larger_than_anybodys(self):
        """Guard: MOST in shim/src/user.rs: what comes after a MiB is not looked at."""
        passwd = PASSWD.encode() + LONG * 2048 + b"late:x:0:0::/root:/bin/sh\n"
        self.assertIn("no user late", self.with_user("late", "late", users("late", passwd)))


class Groups(Attempts):
    """Groups and capabilities that stay: CVE-2022-2995, CVE-2022-24769."""

    def test_cve_2022_2995_groups_of_the_runtime_are_left(self):
        """Guard: `set_thread_groups` in `Become::become_user`, shim/src/init/process.rs. The daemon has a group of its own here."""
        linux = security(run_as_user={"value": 1000}, run_as_group={"value": 1000})
        container = self.pod.idle(self.name, linux=linux)
        groups = "grep ^Groups: /proc/self/status"
        for said in (self.pod.run(f"{self.name}-run", "sh", "-c", groups, linux=linux), self.pod.exec(container, "sh", "-c", groups)):
            self.assertLessEqual(set(said.split()[1:]), {"1000"}, said)

    def test_cve_2022_24769_capabilities_are_inheritable(self):
        """Guard: `inheritable` in src/model/spec/capabilities.rs is what is ambient."""
        privileged = self.a_pod(linux={"security_context": {"privileged": True}})
        for name, pod, linux in (("root", self.pod, security()), ("user", self.pod, security(run_as_user={"value": 1000})),
                                 ("all", privileged, security(privileged=True))):
            container = pod.idle(f"{self.name}-{name}", linux=linux)
            for said in (pod.run(f"{self.name}-{name}-run", "sh", "-c", INHERITABLE, linux=linux), pod.exec(container, "sh", "-c", INHERITABLE)):
                with self.subTest(as_whom=name):
                    self.assertIn("CapInh:\t0000000000000000", said)
                    self.assertIn("CapAmb:\t0000000000000000", said)

    def test_a_user_that_is_not_root_has_no_capability(self):
        """Guard: `become_user` and `set_caps`, shim/src/init/process.rs."""
        linux = security(run_as_user={"value": 1000})
        container = self.pod.idle(self.name, linux=linux)
        for said in (self.pod.run(f"{self.name}-run", "sh", "-c", INHERITABLE, linux=linux), self.pod.exec(container, "sh", "-c", INHERITABLE)):
            self.assertIn("CapEff:\t0000000000000000", said)
            self.assertIn("CapPrm:\t0000000000000000", said)
