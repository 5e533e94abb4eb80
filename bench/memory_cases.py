"""Cases of the memory tier: hits in shared memory and through mounts, sharing, footprint and idleness."""

import os
import statistics
import time

import proc
from data_sets import MIB, files_of
from harness import case, in_turns, load_result, mb_per_s, p50_us, result_of

HOLDS_BIG = "1GiB"    # an arena, and a floor's buffer, around the data set `big`
HOLDS_SMALL = "2GiB"  # the same for `small`
FOOTPRINT_BASE_BYTES = 10 * MIB
FOOTPRINT_INODE_BYTES = 256


# Hits in shared memory ------------------------------------------------------------------------------------------------

def shm_arguments(daemon, block, runtime_s):
    return ["--engine=shm", f"--socket={daemon.socket}", "--volume=data", "--filename=big", f"--bs={block}",
            "--rw=randread", f"--runtime={int(runtime_s * 1000)}ms", "--time_based", "--ramp_time=300ms",
            "--baseline=memcpy"]


def warm_shm_daemon(bench):
    """A daemon that has all of `big` in memory."""
    source, _ = bench.data("big")
    daemon = bench.daemon(source, HOLDS_BIG)
    bench.load("--engine=shm", f"--socket={daemon.socket}", "--volume=data", "--filename=big", "--bs=1m", "--rw=read")
    return daemon


def switches_during(daemon, seconds):
    before = proc.context_switches(daemon.pid)
    time.sleep(seconds)
    return proc.context_switches(daemon.pid) - before


@case("shm-4k-hit", "<= 1.5")
def shm_4k_hit(bench):
    """4 KiB random hit in shared memory, one thread: p50 against a random 4 KiB memcpy over the same arena.

    The daemon's context switches are counted inside the time of the hits, without attaching and leaving.
    """
    daemon = warm_shm_daemon(bench)
    cached, floor, switches = [], [], []
    time.sleep(1)
    with daemon.all_from_memory():
        for turn in range(bench.runs(7)):
            load = bench.start_load(*shm_arguments(daemon, "4k", 1.5), f"--randseed={turn + 1}")
            time.sleep(0.5)
            switches.append(switches_during(daemon, 1))
            jobs = load_result(load)
            cached.append(p50_us(jobs[0]))
            floor.append(p50_us(jobs[1]))
    idle = [switches_during(daemon, 1) for _ in range(3)]
    print(f"  the daemon's context switches in 1 s of hits: {switches}; in 1 s with nothing asked: {idle}")
    return result_of(bench.case, "us", cached, floor)


@case("shm-128k-hit", ">= 0.8")
def shm_128k_hit(bench):
    """128 KiB random hit in shared memory, one thread: bandwidth against memcpy of the same size over the same arena."""
    daemon = warm_shm_daemon(bench)
    cached, floor, medians = [], [], []
    with daemon.all_from_memory():
        # Many short turns: what else runs on the machine takes its share of the time of both sides.
        for turn in range(bench.runs(15)):
            jobs = bench.load(*shm_arguments(daemon, "128k", 0.5), f"--randseed={turn + 1}")
            cached.append(mb_per_s(jobs[0]))
            floor.append(mb_per_s(jobs[1]))
            medians.append([p50_us(job) for job in jobs])
    print("  p50 of one read: cached {:.1f} us, floor {:.1f} us".format(*map(statistics.median, zip(*medians))))
    return result_of(bench.case, "MB/s", cached, floor)


# Through a mount ------------------------------------------------------------------------------------------------------

def big_mounts(bench):
    """(daemon, mount with all of `big` in memory, null file system of the same shape)."""
    source, file_list = bench.data("big")
    daemon = bench.daemon(source, HOLDS_BIG)
    mount = bench.mount(daemon)
    floor = bench.null_mount(file_list, HOLDS_BIG)
    bench.load(f"--filename={mount.path}/big", "--bs=1m", "--rw=read", "--direct")
    return daemon, mount, floor


def compare_big(bench, unit, value, *arguments):
    """Runs one load on the mount and on the floor in turns; `value` takes the figure out of a job."""
    daemon, mount, floor = big_mounts(bench)

    def measure(path):
        return value(bench.load(f"--filename={path}/big", "--time_based", "--ramp_time=200ms", *arguments)[0])

    with daemon.all_from_memory():
        cached, null = in_turns(bench.runs(7), lambda: measure(mount.path), lambda: measure(floor.path))
    return result_of(bench.case, unit, cached, null), mount, floor


@case("mount-4k", "<= 1.15")
def mount_4k(bench):
    """4 KiB random O_DIRECT reads through a mount, one in flight, all in memory: p50 against the null file system's."""
    return compare_big(bench, "us", p50_us, "--bs=4k", "--rw=randread", "--direct", "--runtime=1500ms")[0]


@case("mount-4k-qd16", ">= 0.85")
def mount_4k_qd16(bench):
    """4 KiB random O_DIRECT reads through a mount, 16 in flight, all in memory: rate against the null file system's."""
    return compare_big(bench, "IOPS", lambda job: job["read"]["iops"], "--engine=io_uring", "--iodepth=16", "--bs=4k",
                       "--rw=randread", "--direct", "--runtime=1500ms")[0]


@case("mount-1m", ">= 0.9")
def mount_1m(bench):
    """1 MiB sequential O_DIRECT reads through a mount, all in memory: throughput against the null file system's."""
    result, mount, floor = compare_big(bench, "MB/s", mb_per_s, "--bs=1m", "--rw=read", "--direct", "--runtime=1s")

    def buffered(path):
        proc.forget_pages(path / "big")
        return mb_per_s(bench.load(f"--filename={path}/big", "--bs=1m", "--rw=read")[0])

    cached, null = in_turns(bench.runs(5), lambda: buffered(mount.path), lambda: buffered(floor.path))
    print(f"  buffered, no page in the kernel: {statistics.median(cached) / statistics.median(null):.3f} "
          f"(cached {statistics.median(cached):.0f} MB/s, floor {statistics.median(null):.0f} MB/s)")
    return result


def small_load(bench, path, file_list, *more):
    """Opens, reads and closes the files of a list below `path`; returns the job."""
    return bench.load("--workload=smallfiles", f"--filelist={file_list}", "--bs=128k", f"--directory={path}", *more)[0]


def compare_random_order(bench, cached, floor, file_list):
    """Small files in random order by one reader, through the mounts of both sides, kernel caches dropped."""
    def measure(mount):
        proc.drop_kernel_caches()
        return small_load(bench, mount.path, file_list)["read"]["iops"]

    return result_of(bench.case, "files/s", *in_turns(bench.runs(5), lambda: measure(cached), lambda: measure(floor)))


def compare_small_files(bench, daemon, file_list, memory):
    """Small files of the daemon's volume in random order, all in its memory, against the null file system's."""
    mount = bench.mount(daemon)
    floor = bench.null_mount(file_list, memory)
    small_load(bench, mount.path, file_list, "--numjobs=4")
    with daemon.all_from_memory():
        return compare_random_order(bench, mount, floor, file_list)


@case("mount-smallfiles", ">= 0.8")
def mount_smallfiles(bench):
    """Open, read, close 20,000 files of 20-100 KB in random order, kernel caches dropped: files/s against the null fs's."""
    source, file_list = bench.data("small")
    return compare_small_files(bench, bench.daemon(source, HOLDS_SMALL), file_list, HOLDS_SMALL)


# Sharing and cost -----------------------------------------------------------------------------------------------------

def read_at_once(bench, mounts, file_list):
    """All mounts read the whole data set together, each in its own random order."""
    big = ":".join(path for _, path in files_of(file_list) if "/" not in path)
    small_list = bench.work / "small.list"
    small_list.write_text("".join(f"{size} {path}\n" for size, path in files_of(file_list) if "/" in path))
    for arguments in (["--rw=randread", "--bs=128k", f"--filename={big}"],
                      ["--workload=smallfiles", f"--filelist={small_list}", "--bs=128k"]):
        loads = [bench.start_load(*arguments, f"--directory={mount.path}", f"--randseed={seed}")
                 for seed, mount in enumerate(mounts)]
        for load in loads:
            load_result(load)


@case("eight-mounts-cold", "<= 1.01")
def eight_mounts_cold(bench):
    """Eight mounts read one cold data set at once: bytes read from the origin against bytes of the data."""
    source, file_list = bench.data("cold")
    data_bytes = sum(size for size, _ in files_of(file_list))
    origin, content = [], []
    for _ in range(bench.runs(5)):
        with bench.scope():
            daemon = bench.daemon(source, HOLDS_BIG)
            mounts = [bench.mount(daemon) for _ in range(8)]
            read_at_once(bench, mounts, file_list)
            status = daemon.status()
        origin.append(status["origin"]["read_bytes"] / 1e6)
        content.append(status["memory"]["content_bytes"] / 1e6)
    print(f"  content in the arena: {statistics.median(content) * 1e6 / data_bytes:.4f} of the data's bytes")
    return result_of(bench.case, "MB", origin, [data_bytes / 1e6] * len(origin))


def print_footprint(points, page_tables, shared_memory):
    (_, base), (inodes, last) = points[0], points[-1]
    print(f"  base {base / MIB:.2f} MiB, {(last - base) / inodes:.0f} bytes an inode at {inodes}; "
          f"{shared_memory / MIB:.2f} MiB of it in pages of shared memory that nobody else has mapped yet; "
          f"page tables {page_tables / MIB:.2f} MiB besides")


def footprint_run(bench, daemon, file_list):
    """Private bytes of a new mount: [(inodes that the kernel holds, bytes)] for 0, 20,000, ... 100,000."""
    with bench.scope():
        mount = bench.mount(daemon)
        points = [(0, proc.private_bytes(mount.pid))]
        for number, (_, path) in enumerate(files_of(file_list), start=1):
            os.stat(mount.path / path)
            if number % 20_000 == 0:
                points.append((number, proc.private_bytes(mount.pid)))
        page_tables = 1024 * proc.proc_value(f"/proc/{mount.pid}/status", "VmPTE")
        print_footprint(points, page_tables, proc.private_bytes_of_memfds(mount.pid))
        return points


def footprint_bound(inodes):
    return FOOTPRINT_BASE_BYTES + FOOTPRINT_INODE_BYTES * inodes


@case("mount-footprint", "<= 1")
def mount_footprint(bench):
    """Private memory of a mount whose kernel holds up to 100,000 inodes, against 10 MiB plus 256 bytes for each.

    The floor is the bound itself; of the points between 0 and 100,000 inodes the worst one counts.
    """
    source, file_list = bench.data("many")
    daemon = bench.daemon(source, "256MiB")
    used, bound = [], []
    for _ in range(bench.runs(5)):
        points = footprint_run(bench, daemon, file_list)
        inodes, worst = max(points, key=lambda point: point[1] / footprint_bound(point[0]))
        used.append(worst / 1e6)
        bound.append(footprint_bound(inodes) / 1e6)
    return result_of(bench.case, "MB", used, bound)


@case("idle", "< 1")
def idle(bench):
    """CPU ticks (10 ms) of the daemon and two mounts in 5 s with nothing asked; the floor is one tick."""
    source, _ = bench.data("big")
    daemon = bench.daemon(source, HOLDS_BIG)
    mounts = [bench.mount(daemon) for _ in range(2)]
    for mount in mounts:
        bench.load(f"--filename={mount.path}/big", "--bs=1m", "--rw=read", "--size=64m")
    time.sleep(2)
    pids = [daemon.pid] + [mount.pid for mount in mounts]
    ticks = []
    for _ in range(bench.runs(5)):
        before = [(proc.cpu_ticks(pid), proc.cpu_ns(pid), proc.context_switches(pid)) for pid in pids]
        time.sleep(5)
        after = [(proc.cpu_ticks(pid), proc.cpu_ns(pid), proc.context_switches(pid)) for pid in pids]
        spent = [[b - a for a, b in zip(*pair)] for pair in zip(before, after)]
        print("  daemon, mount, mount: " + "; ".join(
            f"{tick} ticks, {ns / 1e6:.2f} ms on a CPU, {switches} switches" for tick, ns, switches in spent))
        ticks.append(sum(tick for tick, _, _ in spent))
    return result_of(bench.case, "ticks", ticks, [1] * len(ticks))
