"""The oracle's bundles in the machine: the shim beside the peers on a node as most are, with cgroup v2 and systemd.

Invariant: nothing of Corten but the shim has a part in it; the machine's daemon has been stopped.
"""

import os
import pathlib
import subprocess

from installed import SHIM

PAYLOAD = pathlib.Path("/tests")
PROGRAMS = PAYLOAD / "bin"
# Debian's crun; runc as the tests have built it, which is most of the time. Each with the list of what it may do otherwise.
PEERS = (("crun", "differences.crun", "crun"), ("runc", "differences", str(PROGRAMS / "runc")))


def run_some() -> None:
    """The short form: half of the bundles, without runc, beside which the CI host's tier has them all."""
    run(["--some"], PEERS[:1])


def run(options: list[str], peers: tuple = PEERS) -> None:
    """Options are those of `oracle/run.py`. It records what it finds by itself."""
    command = [PAYLOAD / "tests/oracle/run.py", "--probe", PROGRAMS / "probe", "--shim", str(PROGRAMS / "oci-runtime")]
    for peer in peers:
        command += ["--peer", *peer]
    # /tmp has no devices here, which would hide how they are made.
    environment = {**os.environ, "CORTEN_SHIM": SHIM, "TMPDIR": "/var/tmp"}
    subprocess.run([*command, *options], env=environment, check=True)
