"""Corten as an operator installs it: its Debian package, run by systemd."""

import json
import subprocess

import life
from runtimes import Corten

UNIT = "corten.service"
SHIM = "/usr/libexec/corten/corten-shim"


class Unit:
    """A unit of systemd, with the words of `service.Service`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def pid(self) -> int:
        """The main process; 0 while there is none."""
        return int(self.property("MainPID"))

    def property(self, name: str) -> str:
        return systemctl("show", "--value", "--property", name, self.name).strip()

    def running(self) -> bool:
        return self.property("ActiveState") in ("active", "activating", "reloading")

    def start(self) -> None:
        systemctl("start", self.name)

    def stop(self) -> None:
        systemctl("stop", self.name)

    def restart(self) -> None:
        systemctl("restart", self.name)

    def kill(self) -> None:
        """SIGKILL to the main process; what then happens is systemd's affair."""
        systemctl("kill", "--kill-whom=main", "--signal=KILL", self.name)

    def tail(self, lines: int = 40) -> str:
        return journal("--lines", str(lines), "--unit", self.name)


class InstalledCorten(Corten):
    """Corten as the machine's own service."""

    def install(self) -> Unit:
        """The package enables and starts it; the pods' network is chosen by the operator."""
        life.dpkg("--install", life.package("one"))
        subprocess.run(["install", "-Dm", "0644", "-t", life.CONFLIST.parent, life.EXAMPLE], check=True)
        return Unit(UNIT)

    def inspect(self, container: str) -> dict:
        return json.loads(self.crictl("inspect", container))

    def start_after_install(self) -> None:
        """The package does."""

    def stop_before_removal(self) -> None:
        """The package does."""

    def status(self) -> dict:
        """What the command line says of the daemon and its node."""
        return json.loads(subprocess.check_output(["corten", "status", "--output", "json"], text=True))


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def journal(*words: str) -> str:
    return subprocess.run(
        ["journalctl", "--boot", "--no-pager", *words], capture_output=True, text=True, check=False
    ).stdout
