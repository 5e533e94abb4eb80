"""Reads from the SSDs while they are being filled."""

import contextlib
import mmap
import os
import statistics
import threading
import time

from data_sets import GIB, MIB
from harness import BenchError, case, in_turns, mb_per_s, result_of
from ssd_setup import SsdNode, device_bytes_for

DATA_BYTES = 2 * GIB
STREAM_BYTES_PER_S = 200 * MIB


class ColdStream:
    """Reads a file through a mount, each byte once, at a steady rate: what an origin sends. A thread while entered."""

    def __init__(self, path, size):
        self.path, self.size = path, size
        self.position = 0
        self.error = None

    def __enter__(self):
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        if self.error:
            raise BenchError(f"the cold stream: {self.error}")

    def _run(self):
        try:
            self._read()
        except OSError as error:
            self.error = error

    def _read(self):
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
        started, begun_at = time.monotonic(), self.position
        with contextlib.closing(mmap.mmap(-1, MIB)) as buffer:
            try:
                while self.position < self.size:
                    due = started + (self.position - begun_at) / STREAM_BYTES_PER_S
                    if self.ended.wait(max(0, due - time.monotonic())):
                        return
                    self.position += os.preadv(descriptor, [buffer], self.position)
                self.error = "the file came to its end within the turns"
            finally:
                os.close(descriptor)


class FillTurns:
    """The load of hits, alone and beside the stream."""

    def __init__(self, bench, node, stream):
        self.bench, self.node, self.stream = bench, node, stream
        self.seed, self.taken_in = 0, []

    def alone(self):
        self.seed += 1
        return mb_per_s(self.bench.load(*self.node.shm_arguments(), "--rw=randread", "--bs=128k", "--iodepth=32",
                                        "--time_based", "--runtime=1500ms", f"--randseed={self.seed}", "--in-place")[0])

    def beside(self):
        admitted, origin, sent = self.node.sum("admitted_bytes"), self.node.daemon.origin_bytes(), self.stream.position
        with self.stream:
            value = self.alone()
        self.node.wait_until_written()
        sent = self.stream.position - sent
        if self.node.daemon.origin_bytes() - origin > 1.2 * sent:  # the mount reads ahead
            raise BenchError("the origin was read for the load of hits")
        self.taken_in.append((self.node.sum("admitted_bytes") - admitted) / sent)
        return value


@case("ssd-fill", ">= 0.9")
def ssd_fill(bench):
    """128 KiB random reads from the SSD while a cold stream of 200 MiB/s is written to it: MB/s against without it."""
    cold, _ = bench.data_in_memory("ssd")
    node = SsdNode(bench, "ssd", "64MiB", [2 * device_bytes_for(DATA_BYTES)], cold=cold)
    node.fill()
    mount = bench.mount(node.daemon, "cold")
    turns = FillTurns(bench, node, ColdStream(mount.path / node.file, DATA_BYTES))
    with_fill, without = in_turns(bench.runs(5), turns.beside, turns.alone)
    print(f"  of the stream the SSD took in {statistics.median(turns.taken_in):.3f}")
    return result_of(bench.case, "MB/s", with_fill, without)
