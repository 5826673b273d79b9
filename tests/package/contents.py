#!/usr/bin/env python3
"""What is in the package and in the tarball, without installing either: the same bytes twice, the files and their
modes, a unit that is no sandbox, what lintian says.
"""

import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "lib")]
from recorder import run_cases  # noqa: E402

PACKAGES = pathlib.Path(os.environ["CORTEN_PACKAGES"])
DEPLOY = TESTS.parent / "deploy"
# systemd.exec(5): these give a unit a mount namespace, from which no mount reaches the host.
OWN_MOUNTS = re.compile(
    r"^(Private\w+|Protect(System|Home|ControlGroups|Kernel\w+|Proc)|ProcSubset|\w*Paths|TemporaryFileSystem"
    r"|Root\w+|Mount\w+|Extension\w+|DynamicUser|LogNamespace)="
)
# These are inherited by shims and, through them, by containers.
INHERITED = re.compile(
    r"^(NoNewPrivileges|CapabilityBoundingSet|AmbientCapabilities|SecureBits|SystemCall\w+|Restrict(?!art)\w+|LockPersonality"
    r"|MemoryDenyWriteExecute|Protect(Clock|Hostname)|UMask|User|Group)="
)
# What the unit has to say, and why is in the unit.
WANTED = {
    "Type=notify", "WatchdogSec=60", "KillMode=process", "Delegate=yes", "TasksMax=infinity", "LimitNOFILE=1048576",
    "LimitNPROC=infinity", "LimitCORE=infinity", "OOMPolicy=continue", "Wants=network-online.target", "Restart=always",
    "ExecReload=/bin/kill -HUP $MAINPID", "StartLimitIntervalSec=0",
}
PROGRAMS = {"corten": "bin", "corten-shim": "libexec/corten"}
# Ready programs (CORTEN_PREBUILT) may come without the bundled plugins.
if pathlib.Path(os.environ["CORTEN_DIST"], "corten-cni").exists():
    PROGRAMS["corten-cni"] = "libexec/corten"
SHARED = (
    "share/man/man1/corten.1.gz", "share/man/man1/corten-image-pull.1.gz", "share/bash-completion/completions/corten",
    "share/fish/vendor_completions.d/corten.fish", "share/corten/10-corten.conflist", "lib/systemd/system/corten.service",
)


def only(folder: str, pattern: str) -> pathlib.Path:
    (path,) = (PACKAGES / folder).glob(pattern)
    return path


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def output(*words) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout


class Unpacked(unittest.TestCase):
    """The package's and the tarball's files, each in a folder."""

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(dir=PACKAGES)
        cls.addClassCleanup(scratch.cleanup)
        cls.package = only("one", "*.deb")
        cls.tarball = only("one", "*.tar.gz")
        cls.root, cls.local = (pathlib.Path(scratch.name, name) for name in ("root", "local"))
        cls.local.mkdir()
        subprocess.run(["dpkg-deb", "--raw-extract", cls.package, cls.root], check=True)
        subprocess.run(["tar", "-xzf", cls.tarball, "-C", cls.local], check=True)


class Bytes(Unpacked):
    def test_the_same_programs_make_the_same_bytes(self):
        for pattern in ("*.deb", "*.tar.gz"):
            self.assertEqual(digest(only("one", pattern)), digest(only("again", pattern)), pattern)

    def test_no_time_but_one_is_in_them(self):
        data = subprocess.check_output(["dpkg-deb", "--fsys-tarfile", self.package])
        with tarfile.open(self.tarball) as tarball, tarfile.open(fileobj=io.BytesIO(data)) as package:
            times = {member.mtime for tar in (tarball, package) for member in tar}
        self.assertEqual(len(times), 1)


class Contents(Unpacked):
    def test_programs_are_where_they_are_looked_for(self):
        for root in (self.root / "usr", self.local):
            for program, folder in PROGRAMS.items():
                path = root / folder / program
                self.assertEqual(path.stat().st_mode & 0o7777, 0o755, path)
            self.assertRegex(output(root / "bin/corten", "--version"), r"^corten \d")

    def test_both_have_unit_pages_completions_and_network(self):
        for root in (self.root / "usr", self.local):
            self.assertEqual([name for name in SHARED if not (root / name).is_file()], [], root)
        self.assertTrue((self.root / "usr/share/zsh/vendor-completions/_corten").is_file())
        self.assertTrue((self.local / "share/zsh/site-functions/_corten").is_file())

    def test_the_configuration_is_a_conffile(self):
        self.assertEqual((self.root / "DEBIAN/conffiles").read_text(), "/etc/corten/corten.toml\n")
        default = (DEPLOY / "corten.toml").read_bytes()
        self.assertEqual((self.root / "etc/corten/corten.toml").read_bytes(), default)
        self.assertEqual((self.local / "share/corten/corten.toml").read_bytes(), default)

    def test_all_is_roots_and_nothing_is_writable_by_others(self):
        for line in output("dpkg-deb", "--contents", self.package).splitlines():
            mode, owner, *_ = line.split()
            self.assertEqual((owner, mode[5], mode[8]), ("root/root", "-", "-"), line)

    def test_it_needs_what_its_programs_and_scripts_call(self):
        needs = output("dpkg-deb", "--field", self.package, "Depends")
        for name in ("libc6", "kmod", "procps", "mount"):
            self.assertRegex(needs, rf"\b{name}\b")


class Papers(Unpacked):
    def test_each_verb_has_a_page_that_man_can_show(self):
        pages = sorted((self.root / "usr/share/man/man1").glob("*.1.gz"))
        verbs = {"corten", "corten-serve", "corten-config-check", "corten-status", "corten-image-export"}
        self.assertLessEqual(verbs, {page.name.removesuffix(".1.gz") for page in pages})
        for page in pages:
            done = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, check=False,
                                  env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "100", "MAN_KEEP_STDERR": "1"})
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)
            self.assertIn(page.name.removesuffix(".1.gz"), done.stdout)

    def test_bash_completes_verbs_and_options(self):
        self.assertIn("export", self.complete("corten", "image", "ex"))
        self.assertIn("--config", self.complete("corten", "--con"))

    def complete(self, *words: str) -> list[str]:
        file = self.root / "usr/share/bash-completion/completions/corten"
        script = (
            'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; '
            '_corten corten "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return output("bash", "-c", script, "bash", file, *words).split()


class Unit(Unpacked):
    def lines(self, path: pathlib.Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]

    def test_it_says_what_a_node_needs_and_starts_what_is_installed(self):
        for root, prefix in ((self.root / "usr", "/usr"), (self.local, "/usr/local")):
            lines = self.lines(root / "lib/systemd/system/corten.service")
            self.assertEqual(WANTED - set(lines), set())
            self.assertIn(f"ExecStart={prefix}/bin/corten serve", lines)
            (after,) = [line for line in lines if line.startswith("After=")]
            self.assertLessEqual({"network-online.target", "local-fs.target"}, set(after.removeprefix("After=").split()))

    def test_it_has_neither_mounts_of_its_own_nor_what_containers_would_inherit(self):
        lines = self.lines(DEPLOY / "corten.service")
        self.assertEqual([line for line in lines if OWN_MOUNTS.match(line) or INHERITED.match(line)], [])


class Lintian(Unpacked):
    def test_it_finds_nothing(self):
        done = subprocess.run(["lintian", "--fail-on", "error,warning", self.package],
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)


if __name__ == "__main__":
    for case in (Bytes, Contents, Papers, Unit, Lintian):
        run_cases(case, sys.argv[1] if len(sys.argv) > 1 else "")
