"""Cases of reads from the SSDs, against fio's io_uring engine on the same device files."""

import statistics

from data_sets import GIB, MIB
from harness import case, in_turns, mb_per_s, p50_us, result_of
from ssd_setup import SsdNode, cpu_seconds, device_bytes_for, fio, fio_p50_us

SMALL_ARENA = "64MiB"  # a thirty-second of the data
RUNTIME_S = 2
DATA_BYTES = 2 * GIB
LATENCY_BOUND_US = 15
MOUNT_DEPTH = 16


def filled_node(bench, device_sizes=None):
    node = SsdNode(bench, "ssd", SMALL_ARENA, device_sizes or [device_bytes_for(DATA_BYTES) + 64 * MIB])
    node.fill()
    return node


def shm_load(node, block, depth, *more):
    return [*node.shm_arguments(), "--rw=randread", f"--bs={block}", f"--iodepth={depth}", "--time_based",
            f"--runtime={RUNTIME_S}", *more]


class Turns:
    """Takes samples of both sides, with another order of reads each time, and keeps them."""

    def __init__(self, bench, runs, cached, floor):
        self.cached, self.floor, self.seed = [], [], 0
        in_turns(bench.runs(runs), lambda: self._take(self.cached, cached), lambda: self._take(self.floor, floor))

    def _take(self, samples, measure):
        self.seed += 1
        samples.append(measure(self.seed))

    def result(self, bench, unit, of_cached, of_floor):
        return result_of(bench.case, unit, [of_cached(sample) for sample in self.cached],
                         [of_floor(job) for job in self.floor])


def median_of(values):
    return statistics.median(list(values))


def print_shares(samples):
    print(f"  of what was read {median_of(s.ssd_share for s in samples):.3f} came from the SSDs and counts, the rest was in "
          f"memory; {median_of(s.read_amplification for s in samples):.3f} bytes read from the device for each asked for")


def fio_cpu_s_per_gb(job):
    return cpu_seconds(job) / (job["read"]["io_bytes"] / 1e9)


@case("ssd-128k", ">= 0.95")
def ssd_128k(bench):
    """128 KiB random reads, 32 in flight, from the SSD by engine shm, bytes taken in place: MB/s against fio's.

    CPU time is that of daemon and load, against fio's. fio does not touch the bytes that it reads. The daemon does, for
    their checksums; an application that wants them in memory of its own copies them besides (last line).
    """
    node = filled_node(bench)
    parts = node.written_parts()
    turns = Turns(bench, 7, lambda seed: node.measure(*shm_load(node, "128k", 32, f"--randseed={seed}", "--in-place")),
                  lambda seed: fio(parts, "128k", 32, RUNTIME_S, seed))
    copied = [node.measure(*shm_load(node, "128k", 32, f"--randseed={seed}")) for seed in range(101, 104)]
    print_shares(turns.cached)
    floor_cpu = median_of(map(fio_cpu_s_per_gb, turns.floor))
    for how, samples in (("in place", turns.cached), ("copied out", copied)):
        cpu = median_of(s.cpu_s_per_gb for s in samples)
        print(f"  {how}: {median_of(s.mb_per_s for s in samples):.0f} MB/s, {cpu:.3f} CPU seconds per GB, "
              f"{cpu / floor_cpu:.2f} of fio's {floor_cpu:.3f} (target <= 1.3)")
    return turns.result(bench, "MB/s", lambda sample: sample.mb_per_s, mb_per_s)


@case("ssd-4k-qd64", ">= 0.85")
def ssd_4k_qd64(bench):
    """4 KiB random reads, 64 in flight, from the SSD by engine shm: rate against fio's of 16 KiB, the chunk's size."""
    node = filled_node(bench)
    parts = node.written_parts()
    turns = Turns(bench, 7, lambda seed: node.measure(*shm_load(node, "4k", 64, f"--randseed={seed}")),
                  lambda seed: fio(parts, "16k", 64, RUNTIME_S, seed))
    print_shares(turns.cached)
    return turns.result(bench, "IOPS", lambda sample: sample.iops, lambda job: job["read"]["iops"])


@case("ssd-4k-qd1", "<= 1")
def ssd_4k_qd1(bench):
    """4 KiB random reads, one at a time, from the SSD by engine shm: p50 less fio's of 16 KiB reads, against 15 us."""
    node = filled_node(bench)
    parts = node.written_parts()
    turns = Turns(bench, 7, lambda seed: node.measure(*shm_load(node, "4k", 1, f"--randseed={seed}")),
                  lambda seed: fio(parts, "16k", 1, RUNTIME_S, seed))
    print_shares(turns.cached)
    cached, floor = [p50_us(sample.job) for sample in turns.cached], [fio_p50_us(job) for job in turns.floor]
    print(f"  p50: cached {statistics.median(cached):.1f} us, fio with 16 KiB {statistics.median(floor):.1f} us")
    return result_of(bench.case, "us", [c - f for c, f in zip(cached, floor)], [LATENCY_BOUND_US] * len(cached))


@case("ssd-mount-128k", ">= 0.8")
def ssd_mount_128k(bench):
    """128 KiB random O_DIRECT reads through a mount, 16 in flight, from the SSD: MB/s against fio's on the device."""
    node = filled_node(bench)
    parts = node.written_parts()
    mount = bench.mount(node.daemon, threads=MOUNT_DEPTH)  # each waits for one read
    load = ["--engine=io_uring", "--direct", f"--filename={mount.path}/{node.file}", "--rw=randread", "--bs=128k",
            f"--iodepth={MOUNT_DEPTH}", "--time_based", f"--runtime={RUNTIME_S}"]
    turns = Turns(bench, 7, lambda seed: node.measure(*load, f"--randseed={seed}"),
                  lambda seed: fio(parts, "128k", MOUNT_DEPTH, RUNTIME_S, seed))
    print_shares(turns.cached)
    return turns.result(bench, "MB/s", lambda sample: sample.mb_per_s, mb_per_s)


def print_split(node):
    devices = node.daemon.devices()
    capacity, admitted = (sum(device[figure] for device in devices) for figure in ("capacity_bytes", "admitted_bytes"))
    shares = [(device["admitted_bytes"] / admitted, device["capacity_bytes"] / capacity) for device in devices]
    worst = max(abs(got / fair - 1) for got, fair in shares)
    print(f"  {len(devices)} devices, share of the admitted bytes (of the capacity): "
          + ", ".join(f"{got:.3f} ({fair:.3f})" for got, fair in shares) + f"; largest deviation {100 * worst:.1f} %")


def devices_turns(bench, weights, runs):
    """Devices of sizes in this proportion, together a tenth larger than the data."""
    room = 1.1 * device_bytes_for(DATA_BYTES)
    node = filled_node(bench, [int(room * weight / sum(weights)) // MIB * MIB for weight in weights])
    print_split(node)
    parts = node.written_parts()
    return Turns(bench, runs, lambda seed: node.measure(*shm_load(node, "128k", 32, f"--randseed={seed}", "--in-place")),
                 lambda seed: fio(parts, "128k", 32, RUNTIME_S, seed))


@case("ssd-devices", ">= 0.95")
def ssd_devices(bench):
    """128 KiB random reads, 32 in flight, from three devices of sizes 1:2:3 together: MB/s against fio's on all files.

    fio has a job for each file, the 32 split by size. Two devices of 1:2 come first and are printed, as is how the
    bytes were split.
    """
    with bench.scope():
        two = devices_turns(bench, (1, 2), 0).result(bench, "MB/s", lambda sample: sample.mb_per_s, mb_per_s)
        print(f"  2 devices: {two.line()}")
    turns = devices_turns(bench, (1, 2, 3), 5)
    print_shares(turns.cached)
    return turns.result(bench, "MB/s", lambda sample: sample.mb_per_s, mb_per_s)
