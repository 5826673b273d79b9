#!/usr/bin/env python3
"""A disk whose power can be cut: one file in a FUSE file system that keeps every write in order.

    cutdisk.py MOUNTPOINT BASE LOG    serves MOUNTPOINT/disk, which begins as BASE, until it is unmounted

Each write is appended to LOG, and each flush as a mark. `replay` then makes the disk as it would be had the power gone
at any of them: what a flush has covered is there; of what came after it each write is there, not there, or torn between
two sectors, as a disk's volatile cache leaves it. A loop device on the file passes the file system's flushes on as fsync.

The kernel's protocol is spoken here (linux/fuse.h, version 7.31): nothing but Python is needed.
"""

import ctypes
import errno
import os
import random
import struct
import sys

SECTOR = 512
LARGEST_WRITE = 1 << 20
MARK = struct.Struct("<QI")  # offset and length of a write; a flush has the length 0
FLUSH = MARK.pack(0, 0)

IN = struct.Struct("<IIQQIIIHH")
OUT = struct.Struct("<IiQ")
ATTR = struct.Struct("<6Q10I")
ROOT, DISK = 1, 2
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH_FILE, INIT, OPENDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 20, 25, 26, 27, 29, 34, 36, 38, 42
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22


class Disk:
    """The file behind the file system, and the log of what happened to it."""

    def __init__(self, base: str, log: str) -> None:
        self.file = os.open(base, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.log = open(log, "wb", buffering=0)

    def write(self, offset: int, data: bytes) -> None:
        self.log.write(MARK.pack(offset, len(data)) + data)
        os.pwrite(self.file, data, offset)

    def flush(self) -> None:
        self.log.write(FLUSH)

    def attributes(self, node: int) -> bytes:
        mode, size = (0o040755, 0) if node == ROOT else (0o100600, self.size)
        return ATTR.pack(node, size, size // SECTOR, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(disk: Disk, opcode: int, node: int, body: bytes) -> bytes | int | None:
    """The answer's body, an errno, or None where there is no answer."""
    if opcode == INIT:
        flags = BIG_WRITES | MAX_PAGES
        return struct.pack("<IIIIHHIIHH8I", 7, 31, 1 << 17, flags, 16, 12, LARGEST_WRITE, 1, LARGEST_WRITE >> 12, 0, *[0] * 8)
    if opcode == LOOKUP:
        if body.rstrip(b"\0") != b"disk":
            return errno.ENOENT
        return struct.pack("<4Q2I", DISK, 0, 3600, 3600, 0, 0) + disk.attributes(DISK)
    if opcode in (GETATTR, SETATTR):
        return struct.pack("<QII", 3600, 0, 0) + disk.attributes(node)
    if opcode in (OPEN, OPENDIR):
        return struct.pack("<QII", 0, 0, 0)
    if opcode == READ:
        _, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(disk.file, size, offset)
    if opcode == WRITE:
        _, offset, size = struct.unpack_from("<QQI", body)
        disk.write(offset, body[40:40 + size])
        return struct.pack("<II", size, 0)
    if opcode == FSYNC:
        disk.flush()
        return b""
    if opcode == STATFS:
        return struct.pack("<5Q10I", 1 << 20, 1 << 20, 1 << 20, 2, 0, 4096, 255, 4096, 0, *[0] * 6)
    if opcode in (FLUSH_FILE, RELEASE, RELEASEDIR, ACCESS, DESTROY):
        return b""
    if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
        return None
    return errno.ENOSYS


def serve(mountpoint: str, base: str, log: str) -> None:
    disk, device = Disk(base, log), os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"cutdisk", mountpoint.encode(), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), "mount", mountpoint)
    while True:
        try:
            request = os.read(device, LARGEST_WRITE + 8192)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return  # unmounted
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            raise
        _, opcode, unique, node, *_ = IN.unpack_from(request)
        said = answer(disk, opcode, node, request[IN.size:])
        if said is None:
            continue
        code, body = (-said, b"") if isinstance(said, int) else (0, said)
        os.write(device, OUT.pack(OUT.size + len(body), code, unique) + body)


def writes(log: str) -> list[tuple[int, bytes] | None]:
    """What the log holds: writes, and None for each flush. A write that was being logged at the end is left out."""
    found = []
    with open(log, "rb") as file:
        while len(mark := file.read(MARK.size)) == MARK.size:
            offset, length = MARK.unpack(mark)
            data = file.read(length)
            if len(data) < length:
                break
            found.append((offset, data) if length else None)
    return found


def replay(base: str, log: list, cut: int, dice: random.Random) -> None:
    """Makes the file `base` what the disk holds when the power goes after `cut` events."""
    before = log[:cut]
    flushed = max((number for number, event in enumerate(before) if event is None), default=-1)
    file = os.open(base, os.O_RDWR)
    for number, event in enumerate(before):
        if event is None:
            continue
        offset, data = event
        if number > flushed:
            fate = dice.random()
            if fate < 0.4:
                continue
            if fate < 0.5:
                data = data[:dice.randrange(len(data) // SECTOR + 1) * SECTOR]
        os.pwrite(file, data, offset)
    os.close(file)


if __name__ == "__main__":
    serve(*sys.argv[1:])
