"""Cases of the SSD tier's index: the memory that it takes, and how fast a start builds it."""

import contextlib
import json
import mmap
import os
import shutil
import statistics
import time

from data_sets import GIB, MIB
from harness import BenchError, case, output_of, result_of
from ssd_setup import SsdNode, segment_bytes

KIB = 1 << 10
INDEX_ENTRIES = 10_000_000
TARGETS_BYTES = {4: 40, 16: 40, 32: 40, 128: 64}  # by KiB: small files, and blocks of large ones
RECOVERY_TARGET_S = 2
DEVICE_FILE_BYTES = 20 * GIB
DEVICE_FILE_ENTRY_BYTES = 16 * KIB
DISK_WANTED_BYTES = 30 * GIB
REAL_BYTES = 256 * MIB     # what the daemon itself puts on the device file
BLOCK_BYTES = 128 * KIB
FIRST_HIT_TIMEOUT_S = 30


def ssd_bench(bench, *arguments):
    """Runs cached-ssd-bench."""
    return json.loads(output_of([bench.program("cached-ssd-bench"), *arguments]).splitlines()[-1])


@case("ssd-index", "<= 1")
def ssd_index(bench):
    """Memory for an entry of the SSD index, by the kernel's count: 128 KiB blocks against 64 bytes, small files against 40.

    Ten million entries of each length in the product's index. The floor is the target; of the lengths that have one (a small
    file is one of 32 KiB at most) the worst counts. 64 KiB is printed besides.
    """
    worst = None
    for kib in (4, 16, 32, 64, 128):
        answer = ssd_bench(bench, "index", f"--entries={INDEX_ENTRIES}", f"--entry-bytes={kib * KIB}")
        resident, counted = (answer[key] / answer["entries"] for key in ("resident_bytes", "memory_bytes"))
        target = TARGETS_BYTES.get(kib)
        terabytes = ", ".join(f"{tb} TB {tb * 1e12 / (kib * KIB) * resident / 1e9:.2f} GB" for tb in (1, 3, 10))
        print(f"  {kib:3} KiB: {resident:.1f} bytes an entry ({counted:.1f} by its own count), "
              f"{f'target {target}' if target else 'no target'}; {terabytes}")
        if target and (worst is None or resident / target > worst[0] / worst[1]):
            worst = (resident, target)
    return result_of(bench.case, "bytes", [worst[0]], [worst[1]])


def restart(bench, node):
    """kill -9 and a start: returns the seconds until its devices were ready, from the start of the process."""
    node.daemon.child.kill()
    node.daemon.child.wait()
    started = time.monotonic()
    node.daemon = bench.start_daemon(node.daemon.home)
    node.daemon.wait_until(node.daemon.devices_ready, "its devices were ready")
    return time.monotonic() - started


def read_until_hit(path, daemon, started):
    """Reads block after block of a file, each once, until one came from the SSD: seconds since `started`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with contextlib.closing(mmap.mmap(-1, BLOCK_BYTES)) as buffer:
        try:
            for offset in range(0, REAL_BYTES, BLOCK_BYTES):
                if time.monotonic() - started > FIRST_HIT_TIMEOUT_S:
                    break
                os.preadv(descriptor, [buffer], offset)
                now = time.monotonic()
                if daemon.status()["ssd"]["hits"] > 0:
                    return now - started
        finally:
            os.close(descriptor)
    raise BenchError("no read came from the SSD after the restart")


def fill_device_file(bench, node):
    """Segments without data everywhere but in the middle, where the daemon puts blocks of its own."""
    path, segment = node.paths[0], segment_bytes(DEVICE_FILE_BYTES)
    middle = DEVICE_FILE_BYTES // segment // 2
    entries = 0
    for arguments in (["--end-segment", middle], ["--first-segment", middle + 2 + 2 * REAL_BYTES // segment]):
        node.daemon.stop()
        entries += ssd_bench(bench, "fill", path, "--entry-bytes", DEVICE_FILE_ENTRY_BYTES, *arguments)["entries"]
        node.daemon = bench.start_daemon(node.daemon.home)
        node.daemon.wait_until(node.daemon.devices_ready, "its devices were ready")
        if node.sum("live_bytes") < entries * DEVICE_FILE_ENTRY_BYTES:
            raise BenchError(f"the daemon found {node.sum('live_bytes')} bytes of {entries} entries")
        bench.load(*node.shm_arguments(), "--bs=1m", "--rw=read", f"--size={REAL_BYTES}")
        node.wait_until_written()


def measure_device_file(bench):
    """A device file in the real daemon: prints the times to the first hit and to the end of recovery."""
    if (free := shutil.disk_usage(bench.work).free) < DISK_WANTED_BYTES:
        print(f"  no device file of {DEVICE_FILE_BYTES / GIB:.0f} GiB: only {free / GIB:.0f} GiB are free, "
              f"{DISK_WANTED_BYTES / GIB:.0f} are wanted")
        return
    node = SsdNode(bench, "ssd", "64MiB", [DEVICE_FILE_BYTES])
    fill_device_file(bench, node)
    hits = []
    for _ in range(3):
        node.daemon.child.kill()
        node.daemon.child.wait()
        started = time.monotonic()
        node.daemon = bench.start_daemon(node.daemon.home)
        with bench.scope():
            mount = bench.mount(node.daemon)
            hits.append(read_until_hit(mount.path / node.file, node.daemon, started))
    ready = [restart(bench, node) for _ in range(3)]
    device = node.daemon.devices()[0]
    print(f"  device file of {DEVICE_FILE_BYTES / GIB:.0f} GiB, {device['recovered_entries']} entries of "
          f"{DEVICE_FILE_ENTRY_BYTES // KIB} KiB, after kill -9, from the start of the process: first hit (of blocks in the "
          f"middle) {statistics.median(hits):.2f} s, all recovered {statistics.median(ready):.2f} s "
          f"({device['recovery_ms']} ms of it recovery)")


@case("ssd-recovery", "<= 1")
def ssd_recovery(bench):
    """A start on a device in memory that holds 10 million blocks of 128 KiB, on one core: seconds against 2.

    The device's own time, for copying, is part of it and printed. Then a device file of 20 GiB in the real daemon.
    """
    seconds, cpu, reads = [], [], []
    for _ in range(bench.runs(5)):
        answer = ssd_bench(bench, "recovery", "--entries=10000000")
        if answer["entries"] != 10_000_000:
            raise BenchError(f"only {answer['entries']} entries were recovered")
        seconds.append(answer["seconds"])
        cpu.append(answer["cpu_seconds"])
        reads.append(answer["reads_seconds"])
    print(f"  {answer['segments']} segments; {statistics.median(cpu):.2f} s of CPU time, of which the device's copying is "
          f"{statistics.median(reads):.2f} s; {10 / statistics.median(cpu):.1f} million entries a second")
    measure_device_file(bench)
    return result_of(bench.case, "s", seconds, [RECOVERY_TARGET_S] * len(seconds))
