"""Cases of JuiceFS volumes, through a mount. Floors are librados alone on the same objects, and the null file system."""

import subprocess
import time

from harness import case, in_turns, load_result, result_of
from juicefs_setup import Volume
from memory_cases import compare_small_files

MEMORY = "2GiB"
READERS = 8
FIND_ROUND_TRIPS_TARGET = 500
STREAM_BYTES = "4MiB"
STREAM_DEPTH = 4
ASKING = ("evalsha", "mget")  # what a round trip is to the daemon; scripts call the rest


def read_through(volume, measure):
    """What `measure(mount)` gives on a mount of a cold daemon and a cold OSD. A thread of the mount for each reader."""
    with volume.bench.scope():
        mount = volume.bench.mount(volume.daemon(MEMORY), threads=READERS)
        return measure(mount)


@case("juicefs-seq", ">= 0.9")
def juicefs_seq(bench):
    """Cold sequential read of a file of 1 GiB of a JuiceFS volume: bandwidth against librados alone, 4 reads of 4 MiB."""
    volume = Volume(bench, "juicefs-large")

    def measure(mount):
        job = bench.load(f"--directory={mount.path}", "--filename=large", "--bs=1m", "--rw=read")[0]
        return job["read"]["bw_bytes"] / 1e6

    cached, floor = in_turns(bench.runs(5), lambda: read_through(volume, measure),
                             lambda: volume.loop(f"--bs={STREAM_BYTES}", f"--iodepth={STREAM_DEPTH}").mb_per_s)
    return result_of(bench.case, "MB/s", cached, floor)


def reader_lists(bench, volume):
    """A list of files for each reader: every eighth directory, in order."""
    parts = [[] for _ in range(READERS)]
    for size, path in volume.files:
        parts[int(path.split("/")[0][1:]) % READERS].append(f"{size} {path}\n")
    lists = []
    for number, part in enumerate(parts):
        lists.append(bench.work / f"reader-{number}.list")
        lists[-1].write_text("".join(part))
    return lists


@case("juicefs-smallfiles", ">= 0.8")
def juicefs_smallfiles(bench):
    """Cold read of 20,000 files of 20-100 KB of a JuiceFS volume in directory order, eight readers: files/s against librados."""
    volume = Volume(bench, "juicefs-small")
    lists = reader_lists(bench, volume)

    def measure(mount):
        begin = time.monotonic()
        loads = [bench.start_load("--workload=smallfiles", "--in-order", f"--filelist={files}", "--bs=128k",
                                  f"--directory={mount.path}") for files in lists]
        for load in loads:
            load_result(load)
        return len(volume.files) / (time.monotonic() - begin)

    cached, floor = in_turns(bench.runs(5), lambda: read_through(volume, measure),
                             lambda: volume.loop(f"--bs={STREAM_BYTES}", f"--iodepth={READERS}").files_per_s)
    return result_of(bench.case, "files/s", cached, floor)


@case("juicefs-find", "<= 1")
def juicefs_find(bench):
    """Round trips to Redis of a cold `find -ls` over 100,000 files of a JuiceFS volume, against 500."""
    volume = Volume(bench, "juicefs-many")

    def measure(mount):
        before = volume.redis.calls()
        found = subprocess.run(["find", mount.path, "-ls"], check=True, capture_output=True)
        after = volume.redis.calls()
        if found.stdout.count(b"\n") != len(volume.files) + 101:
            raise AssertionError("find did not see the files as they are")
        return sum(after.get(name, 0) - before.get(name, 0) for name in ASKING)

    trips = [read_through(volume, measure) for _ in range(bench.runs(5))]
    return result_of(bench.case, "round trips", trips, [FIND_ROUND_TRIPS_TARGET] * len(trips))


@case("juicefs-warm", ">= 0.8")
def juicefs_warm(bench):
    """20,000 files of 20-100 KB of a JuiceFS volume from memory, random order, kernel caches dropped: against the null fs's."""
    volume = Volume(bench, "juicefs-small")
    return compare_small_files(bench, volume.daemon(MEMORY), volume.file_list, MEMORY)
