"""Logs of a container that says much: the kubelet rotates and compresses them, and no line is lost or said twice."""

import gzip
import pathlib

from on_kubelet import START, OnKubelet
from pods import main, pod
from wait import until

LINES = 5000
# Together six times the size at which the kubelet rotates (`kubelet.CONFIG`), over some of its looks.
PADDING = "x" * 90
TURN = 25


def chatting() -> dict:
    script = (f"n=0; while [ $n -lt {LINES} ]; do n=$((n+1)); echo $n {PADDING};"
              f" [ $((n % {TURN})) -ne 0 ] || usleep 60000; done")
    return pod("chat", restartPolicy="Never", containers=[main(script)])


class Rotation(OnKubelet):
    def files(self) -> list[pathlib.Path]:
        current = self.kubelet.log_file("chat")
        # 0.log.TIME and 0.log.TIME.gz in the order of their times, 0.log at last.
        return [*sorted(path for path in current.parent.iterdir() if path.name.startswith("0.log.")), current]

    def numbers(self) -> list[int]:
        texts = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in self.files()]
        lines = b"".join(texts).decode().splitlines()
        # TIME STREAM TAG NUMBER PADDING
        return [int(line.split()[3]) for line in lines]

    def test_no_line_is_lost_by_rotation(self):
        self.await_ended("chat")
        # A file may be on its way to its compressed form just now: read again.
        until(lambda: self.numbers() == list(range(1, LINES + 1)), 15, "every line once, in its order")

    def test_files_were_rotated_and_compressed(self):
        self.await_ended("chat")
        names = [path.name for path in self.files()]
        self.assertGreaterEqual(len(names), 4, names)
        self.assertGreaterEqual(sum(name.endswith(".gz") for name in names), 2, names)


PODS = (chatting,)
CASES = (Rotation,)
