"""What the cases of the SSD tier share: a node whose SSDs hold a data set, its load, and fio on the same files.

fio's io_uring engine is the floor: direct I/O on the device files themselves, over the part of them that the daemon has
written (what was never written is read without the disk), with registered buffers, one job for each file.
"""

import dataclasses
import json
import time

import proc
from data_sets import MIB, files_of
from harness import BenchError, output_of

SUPERBLOCK_AREA_BYTES = MIB  # segments begin behind it (cached/ssd_tier/FORMAT.md)
LARGEST_SEGMENT_BYTES = 64 * MIB
SEGMENTS_WANTED = 1024
LIVE_SHARE = 0.985
FILLED_SHARE = 0.001
ORIGIN_SHARE = 0.01  # of the reads of a measurement
FILL_PASSES = 30
TICKS_PER_S = 100


def segment_bytes(device_bytes):
    """A device of so many bytes is divided into segments of this size."""
    wanted = max(1, device_bytes // SEGMENTS_WANTED)
    return min(max(1 << (wanted.bit_length() - 1), MIB), LARGEST_SEGMENT_BYTES)


def device_bytes_for(content_bytes, block_bytes=128 << 10):
    """The size of a device that holds so many bytes of blocks.

    Batch headers and the footer cost a segment one block: next to nothing of 64 MiB (devices from 64 GiB on), but a
    sixteenth of 2 MiB.
    """
    size = content_bytes
    while True:
        segment = segment_bytes(size)
        blocks = -(-content_bytes // block_bytes)
        segments = -(-blocks // (segment // block_bytes - 1))
        needed = SUPERBLOCK_AREA_BYTES + segments * segment
        if segment_bytes(needed) == segment:
            return needed
        size = needed


@dataclasses.dataclass
class Sample:
    """One turn of a load on the SSDs."""
    job: dict
    ssd_share: float           # of what was asked for, what the SSDs gave (blocks or parts of them); the rest was in memory
    read_amplification: float  # bytes read from the devices for each that was asked for
    cpu_s_per_gb: float        # daemon and load together

    @property
    def mb_per_s(self):
        """Of what came from the SSDs."""
        return self.ssd_share * self.job["read"]["bw_bytes"] / 1e6

    @property
    def iops(self):
        return self.ssd_share * self.job["read"]["iops"]


class SsdNode:
    """A daemon, its device files, and the one large file that they hold."""

    def __init__(self, bench, data, memory, device_sizes, source=None, **more_sources):
        self.bench = bench
        source, file_list = source or bench.data(data)
        [(self.data_bytes, self.file)] = files_of(file_list)
        home = bench.new_path("devices")
        home.mkdir()
        self.paths = [home / f"ssd{number}" for number in range(len(device_sizes))]
        self.daemon = bench.daemon(source, memory, list(zip(self.paths, device_sizes)), **more_sources)

    def shm_arguments(self, volume="data", file=None):
        return ["--engine=shm", f"--socket={self.daemon.socket}", f"--volume={volume}", f"--filename={file or self.file}"]

    def sum(self, figure):
        return sum(device[figure] for device in self.daemon.devices())

    def wait_until_written(self):
        """Until the writers have nothing left."""
        before = -1
        while (now := self.sum("write_bytes")) != before:
            before = now
            time.sleep(0.3)

    def fill(self):
        """Reads everything until the SSDs have it and a pass asks next to nothing of the origin."""
        for _ in range(FILL_PASSES):
            before = self.daemon.origin_bytes()
            self.bench.load(*self.shm_arguments(), "--bs=1m", "--rw=read", "--in-place")
            self.wait_until_written()
            from_origin = self.daemon.origin_bytes() - before
            if self.sum("live_bytes") >= LIVE_SHARE * self.data_bytes and from_origin <= FILLED_SHARE * self.data_bytes:
                return
        raise BenchError(f"the SSDs hold {self.sum('live_bytes')} of {self.data_bytes} bytes after {FILL_PASSES} passes")

    def measure(self, *arguments):
        """Runs a load of hits."""
        before, ticks = self.daemon.status(), proc.cpu_ticks(self.daemon.pid)
        read_before = self.sum("read_bytes")
        job = self.bench.load(*arguments)[0]
        after, ticks = self.daemon.status(), proc.cpu_ticks(self.daemon.pid) - ticks
        asked = job["read"]["io_bytes"]
        origin = after["origin"]["reads"] - before["origin"]["reads"]
        if origin > ORIGIN_SHARE * job["read"]["total_ios"]:
            raise BenchError(f"the origin had to answer {origin} of {job['read']['total_ios']} reads")
        cpu_s = ticks / TICKS_PER_S + cpu_seconds(job)
        # Hits are counted in blocks or, of small reads, in the parts that were asked for: as many as there were reads.
        hits = after["ssd"]["hits"] - before["ssd"]["hits"]
        return Sample(job, min(1, hits / job["read"]["total_ios"]), (self.sum("read_bytes") - read_before) / asked,
                      cpu_s / (asked / 1e9))

    def written_parts(self):
        """(path, offset, bytes) of each device file: what was written."""
        return [(path, SUPERBLOCK_AREA_BYTES, device["used_bytes"] - segment_bytes(device["capacity_bytes"]))
                for path, device in zip(self.paths, self.daemon.devices())]


def cpu_seconds(job):
    """Of the threads of a job of cached-bench or fio, while they read."""
    return (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["read"]["runtime"] / 1000


def shares_of(total, parts):
    """Whole numbers of at least one in the proportion of `parts`, with about this sum."""
    return [max(1, round(total * part / sum(parts))) for part in parts]


def fio(parts, block, depth, runtime_s, seed=1):
    """fio's random reads of these parts of files; the depth is split in proportion. Returns the sum of its jobs."""
    command = ["fio", "--ioengine=io_uring", "--direct=1", "--fixedbufs", "--readonly", "--thread", "--rw=randread",
               f"--bs={block}", f"--runtime={runtime_s}", "--time_based", f"--randseed={seed}", "--lat_percentiles=1",
               "--clat_percentiles=0", "--group_reporting", "--output-format=json"]
    for number, ((path, offset, size), part) in enumerate(zip(parts, shares_of(depth, [size for _, _, size in parts]))):
        command += [f"--name=floor{number}", f"--filename={path}", f"--offset={offset}", f"--size={size}",
                    f"--iodepth={part}"]
    text = output_of(command)
    [job] = json.loads(text[text.index("{"):])["jobs"]
    return job


def fio_p50_us(job):
    """From the submission to the completion, as cached-bench counts."""
    return job["read"]["lat_ns"]["percentile"]["50.000000"] / 1000
