"""Corten as an operator installs it: its own files in the places of deploy/, run by systemd."""

import json
import pathlib
import shutil
import subprocess

from runtimes import Corten

PAYLOAD = pathlib.Path("/tests")
UNIT = "corten.service"
PLACES = {
    "bin/corten": "/usr/local/bin/corten",
    "bin/corten-shim": "/usr/local/libexec/corten/corten-shim",
    "deploy/corten.toml": "/etc/corten/corten.toml",
    "deploy/10-corten.conflist": "/etc/cni/net.d/10-corten.conflist",
    "deploy/corten.service": "/etc/systemd/system/corten.service",
}


class Unit:
    """A unit of systemd, with the words of `service.Service`."""

    def __init__(self, name: str) -> None:
        self.name = name
        systemctl("daemon-reload")
        systemctl("enable", "--quiet", "--now", name)

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
        for source, target in PLACES.items():
            pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PAYLOAD / source, target)
        return Unit(UNIT)

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
