"""Cases of data sets in Ceph: reading cold, metadata, importing. Floors are librados alone and rados bench on the same
cluster, which shares the machine's cores with both sides; what is left to each side is what counts."""

import os
import statistics
import subprocess
import time

import proc
from harness import case, in_turns, result_of
from rados_setup import DataSet, difference, kept_cluster, new_cluster, osd_text, print_osd

MEMORY = "256MiB"           # small, so that the pages of a new daemon's arena are soon all in use: those cost a fault each, once
TREE_MEMORY = "256MiB"
STREAM_DEPTH = 15           # reads of 1 MiB in flight, as many as a channel of the client library has room for
LARGE_DEPTH = 4             # reads of 4 MiB in flight, as many bytes
CPU_TARGET = 1.25
FIND_OPERATIONS_TARGET = 200
FIND_BYTES_TARGET = 150
LOOP_S = 3
RADOS_BENCH_S = 3


def print_cpu(cached, floor):
    own, other = (statistics.median(sample.cpu_s_per_gb for sample in samples) for samples in (cached, floor))
    print(f"  CPU-seconds per GB without the OSD: {own / other:.3f} (cached {own:.3f}, floor {other:.3f})")


def print_sides(cached, floor):
    print_osd("cached in the last turn", cached[-1].osd)
    print_osd("librados alone", floor[-1].osd)
    print_cpu(cached, floor)


def print_stream(large):
    """Returns MB/s of librados alone in reads of 4 MiB, the best there is on this machine."""
    samples = [large.loop_on_pieces("--bs=4MiB", f"--iodepth={LARGE_DEPTH}") for _ in range(3)]
    mb_per_s = statistics.median(sample.mb_per_s for sample in samples)
    print(f"  librados alone in {LARGE_DEPTH} reads of 4 MiB at once: {mb_per_s:.0f} MB/s, "
          f"{statistics.median(sample.cpu_s_per_gb for sample in samples):.3f} CPU-s per GB")
    return mb_per_s


# Reading --------------------------------------------------------------------------------------------------------------

@case("rados-seq", ">= 0.9")
def rados_seq(bench):
    """Cold sequential read of a file of 2 GiB in Ceph, 15 reads of 1 MiB in flight: bandwidth against librados alone.

    The CPU time of client and daemon together is to be at most 1.25 of the loop's; both leave the bytes where they arrived.
    """
    data = DataSet(bench, kept_cluster(bench), "rados-large")
    reading = [f"--filename={data.files[0][1]}", "--bs=1m", "--rw=read", f"--iodepth={STREAM_DEPTH}"]
    cached, floor = in_turns(bench.runs(5), lambda: data.load(MEMORY, *reading, "--in-place"),
                             lambda: data.loop_on_pieces("--bs=1MiB", f"--iodepth={STREAM_DEPTH}"))
    print_sides(cached, floor)
    print_stream(data)
    copied = data.load(MEMORY, *reading)
    print(f"  with the bytes copied out as well: {copied.mb_per_s:.0f} MB/s, {copied.cpu_s_per_gb:.3f} CPU-s per GB "
          f"(target of CPU: {CPU_TARGET} of the floor's, in place)")
    return result_of(bench.case, "MB/s", [s.mb_per_s for s in cached], [s.mb_per_s for s in floor])


@case("rados-128k", ">= 0.85")
def rados_128k(bench):
    """Cold random reads of 128 KiB of a file in Ceph, 16 in flight: bandwidth against librados alone."""
    data = DataSet(bench, kept_cluster(bench), "rados-large")
    turn = iter(range(1, 1000))
    cached, floor = in_turns(
        bench.runs(5),
        lambda: data.load(MEMORY, f"--filename={data.files[0][1]}", "--bs=128k", "--rw=randread", "--iodepth=16", "--in-place",
                          f"--runtime={LOOP_S}", f"--randseed={next(turn)}"),
        lambda: data.loop_on_pieces("--bs=128KiB", "--iodepth=16", "--random", f"--runtime={LOOP_S}",
                                    f"--randseed={next(turn)}"))
    print_sides(cached, floor)
    return result_of(bench.case, "MB/s", [s.mb_per_s for s in cached], [s.mb_per_s for s in floor])


@case("rados-smallfiles", ">= 6")
def rados_smallfiles(bench):
    """Cold read of 50,000 files of 32-96 KiB in directory order: files/s against an object per file, librados, 16 in flight.

    cached's client walks the tree with 4 threads: it lists each directory, then opens and reads its files.
    """
    cluster = kept_cluster(bench)
    data = DataSet(bench, cluster, "rados-small")
    data.write_objects()
    cached, floor = in_turns(
        bench.runs(5),
        lambda: data.load(MEMORY, "--workload=smallfiles", "--in-order", f"--filelist={data.file_list}", "--bs=128k",
                          "--iodepth=4"),
        lambda: data.loop_on_files("--iodepth=16", f"--runtime={LOOP_S}"))
    print_sides(cached, floor)
    stream_mb_per_s = print_stream(DataSet(bench, cluster, "rados-large"))
    rate = stream_mb_per_s * 1e6 * len(data.files) / sum(size for size, _ in data.files)
    print(f"  which is as much as {rate:.0f} such files/s, {rate / statistics.median(s.files_per_s for s in floor):.2f} "
          "times the floor")
    return result_of(bench.case, "files/s", [s.files_per_s for s in cached], [s.files_per_s for s in floor])


# Metadata -------------------------------------------------------------------------------------------------------------

@case("rados-stat", ">= 0.8")
def rados_stat(bench):
    """stat of all 100,000 files of a cached tree through a mount, kernel caches dropped: rate against the null fs's."""
    data = DataSet(bench, kept_cluster(bench), "rados-many")
    daemon = data.daemon(TREE_MEMORY)
    mount = bench.mount(daemon)
    floor_mount = bench.null_mount(data.file_list, TREE_MEMORY)

    def rate(path):
        paths = [os.path.join(path, name) for _, name in data.files]
        proc.drop_kernel_caches()
        begin = time.monotonic()
        for name in paths:
            os.stat(name)
        return len(paths) / (time.monotonic() - begin)

    rate(mount.path)
    before = data.cluster.counters()
    cached, floor = in_turns(bench.runs(5), lambda: rate(mount.path), lambda: rate(floor_mount.path))
    print_osd(f"{bench.runs(5)} times {len(data.files)} stats", difference(before, data.cluster.counters()))
    return result_of(bench.case, "files/s", cached, floor)


@case("rados-find", "<= 1")
def rados_find(bench):
    """RADOS operations for a cold find with attributes over 100,000 files through a mount, against 200.

    Everything counts: the daemon's start, the head, the tables. The bytes that the OSD gave for it are to be at most 150 for
    each file.
    """
    data = DataSet(bench, kept_cluster(bench), "rados-many")
    operations, per_file = [], []
    for _ in range(bench.runs(5)):
        with bench.scope():
            before = data.cluster.counters()
            mount = bench.mount(data.daemon(TREE_MEMORY))
            begin = time.monotonic()
            found = subprocess.run(["find", mount.path, "-type", "f", "-printf", "%s\n"], check=True, capture_output=True)
            seconds = time.monotonic() - begin
            osd = difference(before, data.cluster.counters())
            if [int(size) for size in found.stdout.split()].count(0) or found.stdout.count(b"\n") != len(data.files):
                raise AssertionError("find did not see the files as they are")
        operations.append(osd["op_r"] + osd["op_w"])
        per_file.append(osd["op_r_out_bytes"] / len(data.files))
    print(f"  the OSD counted for the last find, which took {seconds:.1f} s: {osd_text(osd)}")
    print(f"  bytes of metadata read for each file: {statistics.median(per_file):.1f} (target <= {FIND_BYTES_TARGET})")
    return result_of(bench.case, "operations", operations, [FIND_OPERATIONS_TARGET] * len(operations))


# Importing ------------------------------------------------------------------------------------------------------------

def compare_import(bench, data):
    """`cachedctl import` of a tree that lies in memory, in turns with `rados bench write`."""
    source, _ = bench.data_in_memory(data)
    cluster = new_cluster(bench)
    turn = iter(range(1000))

    def import_once():
        before = cluster.counters()
        report = cluster.import_tree(source, f"import-{next(turn)}")
        print_osd(f"an import of {report['files']} files, {report['bytes'] / 1e6:.0f} MB in {report['seconds']:.2f} s",
                  difference(before, cluster.counters()))
        return report["bytes"] / 1e6 / report["seconds"]

    def floor_once():
        before = cluster.counters()
        rate = cluster.rados_bench_mb_per_s(RADOS_BENCH_S)
        print_osd(f"rados bench, {rate:.0f} MB/s", difference(before, cluster.counters()))
        return rate

    # What a new cluster does once is not either side's.
    cluster.rados_bench_mb_per_s(1)
    cached, floor = in_turns(bench.runs(5), import_once, floor_once)
    return result_of(bench.case, "MB/s", cached, floor)


@case("rados-import", ">= 0.8")
def rados_import(bench):
    """Import of a file of 1.5 GiB from memory into Ceph: rate against `rados bench write`, 4 MiB objects, 16 in flight."""
    return compare_import(bench, "rados-import")


@case("rados-import-small", ">= 0.6")
def rados_import_small(bench):
    """Import of 20,000 files of 20-100 KB from memory into Ceph: rate against `rados bench write` of 4 MiB objects."""
    return compare_import(bench, "small")
