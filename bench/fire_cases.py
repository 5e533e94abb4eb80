"""Latencies of reads in steady state, while daemons die and beside a hostile client; the hazard protocol's cost; a soak."""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time

import proc
from data_sets import MIB
from harness import REPOSITORY, BenchError, case, in_turns, load_result, result_of

HOSTILE = REPOSITORY / "tests" / "system" / "hostile.py"
HALF = "384MiB"  # of the data set `big`: half of the reads come from the SSD
SOAK_S = int(os.environ.get("CACHED_SOAK_S", "3600"))
SOAK_TURN_S = 30
SOAK_STALENESS_S = 1
SOAK_SLACK_S = 0.5  # what a machine that does all this at once adds to it before a program sees a change


def percentile_us(job, percent):
    return job["read"]["clat_ns"]["percentile"][f"{percent:.6f}"] / 1000


class TailNode:
    """A mount of `big` over an arena of half its size and an SSD of all of it, and the load that is judged."""

    def __init__(self, bench):
        self.bench = bench
        source, _ = bench.data("big")
        self.daemon = bench.daemon(source, HALF, devices=[(bench.work / "ssd", 1024 * MIB)])
        self.home = self.daemon.home
        self.mount = bench.mount(self.daemon)
        for _ in range(3):  # until the SSD has what left memory
            bench.load(f"--filename={self.mount.path}/big", "--bs=1m", "--rw=read", "--direct")
            time.sleep(1)

    def start(self, runtime_s, seed):
        return self.bench.start_load(f"--filename={self.mount.path}/big", "--bs=64k", "--rw=randread", "--direct",
                                     "--iodepth=4", "--time_based", f"--runtime={runtime_s}s", f"--randseed={seed}",
                                     "--ramp_time=200ms")

    def measure(self, runtime_s=4, seed=1):
        return load_result(self.start(runtime_s, seed))[0]


def print_tail(name, jobs):
    values = [statistics.median(percentile_us(job, percent) for job in jobs) for percent in (50, 99, 99.9)]
    print("  {}: p50 {:.0f} us, p99 {:.0f} us, p99.9 {:.0f} us".format(name, *values), flush=True)


@case("tail", "stated")
def tail(bench):
    """64 KiB random reads through a mount, four at once, half from memory, half from the SSD: p99 against the median."""
    node = TailNode(bench)
    jobs = [node.measure(seed=turn + 1) for turn in range(bench.runs(5))]
    print_tail("steady", jobs)
    return result_of(bench.case, "us", [percentile_us(job, 99) for job in jobs], [percentile_us(job, 50) for job in jobs])


@case("tail-kills", "stated")
def tail_kills(bench):
    """The same while the daemon is killed (SIGKILL) and started again each second: p99.9 against steady state's."""
    node = TailNode(bench)
    cached, floor, kills = [], [], 0
    for turn in range(bench.runs(5)):
        floor.append(node.measure(seed=turn + 1))
        load = node.start(5, turn + 1)
        while load.poll() is None:
            time.sleep(1)
            node.daemon.child.kill()
            node.daemon.child.wait()
            node.daemon = bench.start_daemon(node.home)
            kills += 1
        cached.append(load_result(load)[0])
    print(f"  {kills} kills; no read failed")
    print_tail("steady", floor)
    print_tail("killed each second", cached)
    return result_of(bench.case, "us", [percentile_us(job, 99.9) for job in cached],
                     [percentile_us(job, 99.9) for job in floor])


@contextlib.contextmanager
def hostile_client(node, seconds, seed):
    """A client that does everything wrong, for so long; at a lower priority, as another user's process would have."""
    child = subprocess.Popen([sys.executable, HOSTILE, str(node.daemon.socket), "data", "all", str(seconds), str(seed)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
        output, errors = child.communicate(timeout=seconds + 60)
        if child.returncode != 0:
            raise BenchError(f"the hostile client: {errors.strip()[-500:]}")
        print(f"  hostile: {output.strip()}", flush=True)
    finally:
        child.kill()


@contextlib.contextmanager
def busy_client(node):
    """A process that needs as much CPU as a hostile one, and asks the daemon nothing: two cores are soon shared."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@case("tail-hostile", "<= 2")
def tail_hostile(bench):
    """The same beside a hostile client that does its worst: p99 of the honest against their p99 beside a busy process."""
    node = TailNode(bench)
    seeds = iter(range(1, 1000))

    def beside_hostile():
        with hostile_client(node, 5, next(seeds)):
            return node.measure(seed=next(seeds))

    def beside_busy():
        with busy_client(node):
            return node.measure(seed=next(seeds))

    cached, floor = in_turns(bench.runs(5), beside_hostile, beside_busy)
    quiet = [node.measure(seed=next(seeds)) for _ in range(3)]
    print_tail("alone", quiet)
    print_tail("beside a busy process", floor)
    print_tail("beside a hostile client", cached)
    return result_of(bench.case, "us", [percentile_us(job, 99) for job in cached], [percentile_us(job, 99) for job in floor])


@case("hazards", "stated")
def hazards(bench):
    """A hit of 4 KiB, index and copy, with the hazard protocol against the same without it."""
    cached, floor = [], []
    for _ in range(bench.runs(5)):
        done = subprocess.run([bench.program("cached-hazard-bench")], check=True, capture_output=True, text=True)
        sample = json.loads(done.stdout)
        cached.append(sample["with_hazard_ns"])
        floor.append(sample["without_ns"])
    return result_of(bench.case, "ns", cached, floor)


def memory_in_use(daemon):
    """Bytes that the daemon's own code holds, arena and index aside: by tcmalloc's figures, and by the kernel's."""
    return (daemon.status()["daemon"]["heap_allocated_bytes"],
            proc.private_bytes(daemon.pid) - proc.private_bytes_of_memfds(daemon.pid))


@contextlib.contextmanager
def doomed_mount(bench, daemon):
    """A mount that is killed at some moment while it is read."""
    mount = bench.mount(daemon)
    load = bench.start_load("--name=doomed", "--workload=smallfiles", f"--directory={mount.path}", "--bs=64k", "--numjobs=2",
                            "--time_based", f"--runtime={SOAK_TURN_S}")
    killer = threading.Timer(SOAK_TURN_S / 2, mount.child.kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()
        load.communicate()


@case("soak", "<= 1.05")
def soak(bench):
    """Everything at once for an hour (CACHED_SOAK_S): the daemon's heap, by tcmalloc, at its end against after ten minutes.

    Verifying readers on two mounts and a third that comes and goes, changers at the source, a mount that is killed while it
    is read, a hostile client; memory smaller than the data, an SSD beneath.
    """
    verify = bench.program("cached-verify")
    source = bench.new_path("source")
    source.mkdir()
    manifest = bench.work / "manifest"
    subprocess.run([verify, "make", source, "--manifest", manifest, "--seed", "1", "--small", "2000", "--dirs", "20", "--large", "4",
                    "--large-size", "64MiB"], check=True, stdout=subprocess.DEVNULL)
    # Tables that are full after some minutes: what is made anew at the source is a new inode each time.
    daemon = bench.daemon({"source": f"dir:{source}", "known_inodes": 4000}, "128MiB",
                          devices=[(bench.work / "ssd", 256 * MIB)], name_entries=4000)
    mounts = [bench.mount(daemon, timeout_s=SOAK_STALENESS_S) for _ in range(2)]
    node = type("Node", (), {"daemon": daemon})
    rng = random.Random(1)
    begin = time.monotonic()
    samples, wrong = [], []
    while time.monotonic() < begin + SOAK_S:
        with bench.scope(), hostile_client(node, SOAK_TURN_S, rng.randrange(1 << 30)), doomed_mount(bench, daemon):
            guest = bench.mount(daemon, timeout_s=SOAK_STALENESS_S)
            paths = [str(mount.path) for mount in (*mounts, guest)]
            done = subprocess.run([verify, "run", source, *paths, "--manifest", manifest, "--threads", "6", "--changers", "2",
                                   "--staleness-ms",
                                   str(int((SOAK_STALENESS_S + SOAK_SLACK_S) * 1000)), "--allow-short", "--seconds",
                                   str(SOAK_TURN_S)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                wrong.append(done.stderr[-2000:])
                print(f"  a reader found an error: {wrong[-1]}", flush=True)
        heap_bytes, private_bytes = memory_in_use(daemon)
        samples.append((time.monotonic() - begin, heap_bytes))
        print(f"  after {samples[-1][0]:.0f} s: heap {heap_bytes / MIB:.2f} MiB, private memory {private_bytes / MIB:.1f} MiB",
              flush=True)
        time.sleep(2 * SOAK_STALENESS_S)  # what the last turn changed is old news for the next
    if wrong:
        raise BenchError(f"readers found errors in {len(wrong)} of {len(samples)} turns; the first: {wrong[0]}")
    settled = [used for at, used in samples if at >= SOAK_S / 6][:5]
    last = [used for _, used in samples][-5:]
    return result_of(bench.case, "MB", [used / 1e6 for used in last], [used / 1e6 for used in settled[:len(last)]])
