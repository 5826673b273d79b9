"""A machine in software emulation (QEMU without KVM): boots the disk that `build` made and runs one command in it.

    in    a folder, as a read-only disk that the guest mounts at /tests; its `run` is executed
    out   what the command leaves in /lane/out, as a tar on a disk of its own
    port  the command's output, line by line, and the control lines `begin` and `end STATUS` (they start with NUL)

Invariant: the emulator ends with this process, however that ends; its disks are thrown away.
"""

import ctypes
import os
import pathlib
import select
import signal
import subprocess
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
MEMORY_MB = 3072
OUT_BYTES = 256 << 20
# -cx16: the 16-byte compare-and-exchange of QEMU 7.2 leaves a flag wrong, of which Linux 6.12 dies now and then.
# -la57: without it the kernel walks four levels of page tables, not five.
CPU = "max,-cx16,-la57"
# The root is NVMe, whose driver is built into Debian's cloud kernel: no initrd is needed.
# A host that has other things to do makes emulated minutes long: systemd's own limits are not what is tested.
KERNEL_ARGUMENTS = (
    "root=/dev/nvme0n1 rw console=ttyS0 loglevel=5 panic=-1 mitigations=off net.ifnames=0 systemd.show_status=0"
    " systemd.default_timeout_start_sec=600 systemd.default_device_timeout_sec=600"
)
# From power on to the begin of the command.
BOOT_SECONDS = 600
_libc = ctypes.CDLL(None, use_errno=True)


class MachineEnded(RuntimeError):
    """The machine panicked, rebooted, powered off or took too long before its command came to an end."""


class Machine:
    """Starts at once. `image` is the folder of `build`, `payload` the folder to be mounted, `work` for its files, `data` a
    disk that outlives it: a file, or a socket where one is served over NBD."""

    def __init__(
        self, image: pathlib.Path, payload: pathlib.Path, work: pathlib.Path, data: pathlib.Path | None = None
    ) -> None:
        self.console = work / "console"
        self.status: int | None = None
        self.booted: float | None = None
        self._out = work / "out"
        with open(self._out, "wb") as out:
            out.truncate(OUT_BYTES)
        inside = work / "in"
        _make_disk(payload, inside)
        self._started = time.monotonic()
        self._errors = open(work / "qemu.log", "wb")  # noqa: SIM115 (as long as the machine)
        # An input that has ended would close the port on the host's side.
        self._process = subprocess.Popen(
            [*self._command(image, inside), *(_data(data) if data else ())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "TMPDIR": str(work)}, preexec_fn=_leash(os.getpid()),
        )

    def lines(self, seconds: float) -> Iterator[str]:
        """What the command prints, until it ends; then `status` is its exit status."""
        deadline = self._started + seconds
        pending = b""
        while self.status is None:
            pending += self._read(deadline if self.booted else min(deadline, self._started + BOOT_SECONDS))
            *whole, pending = pending.split(b"\n")
            for line in whole:
                text, _, control = line.partition(b"\0")
                if text or not control:
                    yield text.decode(errors="replace").rstrip("\r")
                self._obey(control.decode())

    def end(self) -> None:
        """Pulls the plug. May be called again."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def fetch(self, folder: pathlib.Path) -> None:
        """Unpacks what the command left; after it has ended."""
        subprocess.run(["tar", "-x", "--no-same-owner", "-f", self._out, "-C", folder], check=True)

    def _command(self, image: pathlib.Path, inside: pathlib.Path) -> list[str]:
        return [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", CPU, "-smp", "2", "-m", str(MEMORY_MB),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", str(image / "vmlinuz"), "-append", KERNEL_ARGUMENTS,
            "-serial", f"file:{self.console}", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
            "-chardev", "stdio,id=lane,signal=off", "-device", "virtserialport,chardev=lane,name=lane",
            *_drive("root", image / "disk.img", "nvme", "snapshot=on,cache=unsafe"),
            *_drive("in", inside, "virtio-blk-pci", "readonly=on"),
            *_drive("out", self._out, "virtio-blk-pci", "cache=unsafe"),
        ]

    def _read(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        stream = self._process.stdout.fileno()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise MachineEnded("it took too long: " + self._last_words())
        data = os.read(stream, 1 << 16)
        if not data:
            raise MachineEnded("it ended before its command did: " + self._last_words())
        return data

    def _obey(self, control: str) -> None:
        if control == "begin":
            self.booted = time.monotonic() - self._started
        elif control.startswith("end "):
            self.status = int(control.split()[1])

    def _last_words(self) -> str:
        """The console's end: a kernel that died says so there."""
        if not self.console.exists():
            return "no word on its console"
        return " | ".join(self.console.read_text(errors="replace").split("\n")[-15:])


def _drive(name: str, path: pathlib.Path, device: str, how: str) -> list[str]:
    return ["-drive", f"if=none,id={name},format=raw,file={path},{how}", "-device", f"{device},drive={name},serial={name}"]


def _data(path: pathlib.Path) -> list[str]:
    served = f"driver=nbd,server.type=unix,server.path={path}"
    plain = f"driver=raw,file.driver=file,file.filename={path}"
    return ["-blockdev", f"node-name=data,{served if path.is_socket() else plain}", "-device", "virtio-blk-pci,drive=data,serial=data"]


def _make_disk(folder: pathlib.Path, disk: pathlib.Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with open(disk, "wb") as image:
        image.truncate(int(size * 1.2) + (64 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-d", folder, disk], check=True)


def _leash(parent: int):
    """Ties a child to this process: it is killed when this one ends."""

    def tie() -> None:
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie
