"""Filters that ask somebody outside: what that one is told, and that its answers are what programs get."""

import array
import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading

from cases_process import ALLOW, ERRNO, profile, rule

# Of linux/seccomp.h.
RECEIVE, SEND = 0xC0502100, 0xC0182101
NOTIFICATION = 80
ANSWER = errno.EDOM
PATIENCE = 15


class Listener:
    """Answers everything that it is asked with one errno, and writes down what it was told of the process."""

    def __init__(self, bundle) -> None:
        self.bundle = bundle
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(bundle.directory / "listener.sock"))
        self.socket.listen()
        self.socket.settimeout(PATIENCE)
        self.done, self.over = os.pipe()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_) -> None:
        os.close(self.over)
        self.socket.close()
        self.thread.join()
        os.close(self.done)

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            if select.select([self.socket, self.done], [], [], PATIENCE)[0] == [self.socket]:
                self.answer(self.take())

    def take(self) -> int:
        connection, _ = self.socket.accept()
        text, descriptors = b"", array.array("i")
        while True:
            piece, beside, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            for _, _, data in beside:
                descriptors.frombytes(data)
            text += piece
            try:
                told = json.loads(text)
            except ValueError:
                if piece:
                    continue
                raise OSError("no state") from None
            break
        connection.close()
        told["pid"] = told["pid"] > 0 and told["pid"] == told["state"]["pid"]
        told["state"]["pid"] = "the same"
        lines = [f"{name} {json.dumps(value, sort_keys=True)}" for name, value in sorted(told.items())]
        (self.bundle.directory / "listener").write_text("run of listener\n" + "\n".join(lines) + "\n")
        return descriptors[0]

    def answer(self, listener: int) -> None:
        while select.select([listener, self.done], [], [], PATIENCE)[0] == [listener]:
            asked = bytearray(NOTIFICATION)
            try:
                fcntl.ioctl(listener, RECEIVE, asked)
            except FileNotFoundError:  # whoever asked has gone
                break
            (number,) = struct.unpack_from("=Q", asked)
            with contextlib.suppress(FileNotFoundError):
                fcntl.ioctl(listener, SEND, struct.pack("=QqiI", number, 0, -ANSWER, 0))
        os.close(listener)


def asks(*more_rules, **more):
    def change(bundle):
        path = str(bundle.directory / "listener.sock")
        profile(ALLOW, rule("SCMP_ACT_NOTIFY", "chmod", "mkdir"), *more_rules, listenerPath=path, **more)(bundle)
        bundle.tasks.append(Listener)
        bundle.traces.append("listener")

    return change


def without_privileges(change):
    def both(bundle):
        change(bundle)
        bundle.set("/process/noNewPrivileges", False)

    return both


DIMENSIONS = {
    "listener": {
        "asked": asks(),
        "with metadata": asks(listenerMetadata="who it is"),
        "beside other rules": asks(rule(ERRNO, "getcwd", errnoRet=5)),
        "without no_new_privs": without_privileges(asks()),
        "killable": asks(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        "nothing to ask": lambda bundle: profile(ALLOW, rule(ERRNO, "chmod"), listenerPath="/no/such/socket")(bundle),
    },
    "refused": {
        "a filter that asks nobody": profile(ALLOW, rule("SCMP_ACT_NOTIFY", "chmod")),
        "a listener that is not there": profile(ALLOW, rule("SCMP_ACT_NOTIFY", "chmod"), listenerPath="/no/such/socket"),
    },
}
