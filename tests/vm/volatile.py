"""A disk with a volatile write cache, for QEMU over NBD: what the guest writes reaches the file with its next flush.

Killing QEMU alone loses nothing that it was given, for the host's page cache keeps it. Here a write waits in memory, and
a cut leaves of each sector, by a coin, one of the versions that were written since the last flush, or the one before.

Invariant: after `cut` nothing is answered and nothing more is written to the file.
"""

import os
import pathlib
import random
import socket
import struct
import threading

SECTOR = 512
#: A real cache is finite too: then it writes what it has.
CACHE_BYTES = 256 << 20
LARGEST_REQUEST = 32 << 20
#: A sector's newest version lasts with this likelihood, else the one before has the same.
LASTS = 0.5

# The protocol's fixed newstyle negotiation and simple replies (the NBD project's proto.md).
GREETING = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 1)
CLIENT_FLAGS = struct.Struct(">I")
OPTION, OPTION_REPLY = struct.Struct(">8sII"), struct.Struct(">QIII")
REQUEST, REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
OPTION_REPLY_MAGIC, REPLY_MAGIC = 0x3E889045565A9, 0x67446698
OPT_ABORT, OPT_INFO, OPT_GO = 2, 6, 7
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, (1 << 31) + 1
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
HAS_FLAGS, SEND_FLUSH = 1, 4
READ, WRITE, DISC, FLUSH = 0, 1, 2, 3


class PowerGone(Exception):
    """The cut was made, or QEMU has gone."""


class Disk:
    """Serves `file` at the socket `path` from a thread of its own, until it is cut."""

    def __init__(self, file: pathlib.Path, path: pathlib.Path) -> None:
        self._file, self._size = os.open(file, os.O_RDWR), file.stat().st_size
        self._waiting: dict[int, list[bytes]] = {}
        self._bytes, self._dead, self._lock = 0, False, threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, dice: random.Random) -> int:
        """The power goes. Gives how many sectors were waiting; called again, none."""
        with self._lock:
            if self._dead:
                return 0
            self._dead = True
            waiting = len(self._waiting)
            self._settle(lambda versions: next((data for data in reversed(versions) if dice.random() < LASTS), None))
            os.close(self._file)
        self._listener.close()
        return waiting

    def _settle(self, choose) -> None:
        for sector, versions in self._waiting.items():
            data = choose(versions)
            if data is not None:
                os.pwrite(self._file, data, sector * SECTOR)
        self._waiting, self._bytes = {}, 0

    def _serve(self) -> None:
        try:
            self._client, _ = self._listener.accept()
            self._negotiate()
            while True:
                self._request()
        except (PowerGone, OSError):
            pass

    def _take(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            more = self._client.recv(count - len(taken))
            if not more:
                raise PowerGone
            taken += more
        return bytes(taken)

    def _negotiate(self) -> None:
        self._client.sendall(GREETING)
        self._take(CLIENT_FLAGS.size)
        while True:
            _, option, length = OPTION.unpack(self._take(OPTION.size))
            self._take(length)
            if option == OPT_ABORT:
                raise PowerGone
            if option not in (OPT_INFO, OPT_GO):
                self._option(option, REP_ERR_UNSUP)
                continue
            self._option(option, REP_INFO, struct.pack(">HQH", INFO_EXPORT, self._size, HAS_FLAGS | SEND_FLUSH))
            self._option(option, REP_INFO, struct.pack(">HIII", INFO_BLOCK_SIZE, SECTOR, 4096, LARGEST_REQUEST))
            self._option(option, REP_ACK)
            if option == OPT_GO:
                return

    def _option(self, option: int, kind: int, data: bytes = b"") -> None:
        self._client.sendall(OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data)

    def _request(self) -> None:
        _, _, kind, handle, offset, length = REQUEST.unpack(self._take(REQUEST.size))
        data = self._take(length) if kind == WRITE else b""
        with self._lock:
            if self._dead or kind == DISC:
                raise PowerGone
            answer = self._answer(kind, offset, length, data)
        self._client.sendall(REPLY.pack(REPLY_MAGIC, 0, handle) + answer)

    def _answer(self, kind: int, offset: int, length: int, data: bytes) -> bytes:
        if kind == READ:
            return self._read(offset, length)
        if kind == WRITE:
            for at in range(0, length, SECTOR):
                self._waiting.setdefault((offset + at) // SECTOR, []).append(data[at:at + SECTOR])
            self._bytes += length
        if kind == FLUSH or self._bytes > CACHE_BYTES:
            self._settle(lambda versions: versions[-1])
        return b""

    def _read(self, offset: int, length: int) -> bytes:
        data = bytearray(os.pread(self._file, length, offset))
        for at in range(0, length, SECTOR):
            versions = self._waiting.get((offset + at) // SECTOR)
            if versions:
                data[at:at + SECTOR] = versions[-1]
        return bytes(data)
