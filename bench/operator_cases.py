"""Cases of the operator's side: answers of the control socket over a full index, warming, what accounting costs."""

import json
import socket
import statistics
import time

from data_sets import GIB, files_of
from harness import BenchError, case, in_turns, mb_per_s, output_of, p50_us, result_of
from memory_cases import HOLDS_BIG, warm_shm_daemon
from ssd_index_cases import ssd_bench

CTL_ENTRIES = 10_000_000
CTL_ENTRY_BYTES = 512
CTL_DEVICE_BYTES = 12 * GIB
CTL_TARGET_MS = 5
CTL_QUESTIONS = 200  # a turn
WARM_DEPTH = 16      # as many pieces as `warm` has in flight


class ControlConnection:
    """One connection to the control socket, asked again and again."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.answers = self.socket.makefile("rb")

    def milliseconds(self, command):
        begin = time.monotonic()
        self.socket.sendall(json.dumps({"command": command}).encode() + b"\n")
        answer = self.answers.readline()
        took = (time.monotonic() - begin) * 1000
        if not json.loads(answer)["ok"]:
            raise BenchError(f"{command}: {answer.decode()}")
        return took


@case("ctl", "<= 1")
def ctl(bench):
    """status, du and top with ten million blocks in the SSD index: the 99th percentile of the slowest against 5 ms."""
    home = bench.new_path("devices")
    home.mkdir()
    device = home / "ssd"
    source, _ = bench.data("cold")
    daemon = bench.daemon(source, "256MiB", [(device, CTL_DEVICE_BYTES)])
    daemon.stop()
    ssd_bench(bench, "fill", device, "--entry-bytes", CTL_ENTRY_BYTES)
    daemon = bench.start_daemon(daemon.home)
    daemon.wait_until(daemon.devices_ready, "its devices were ready")
    entries = sum(entry["entries"] for entry in daemon.devices())
    if entries < CTL_ENTRIES:
        raise BenchError(f"the index has {entries} entries, and {CTL_ENTRIES} are wanted")
    mount = bench.mount(daemon)
    bench.load(f"--filename={mount.path}/big0", "--bs=1m", "--rw=read", "--direct")
    worst, connection = [], ControlConnection(daemon.control)
    shown = {"status": [], "du": [], "top": []}
    for _ in range(bench.runs(5)):
        slowest = 0
        for command, medians in shown.items():
            times = sorted(connection.milliseconds(command) for _ in range(CTL_QUESTIONS))
            medians.append(statistics.median(times))
            slowest = max(slowest, times[CTL_QUESTIONS * 99 // 100])
        worst.append(slowest)
    print(f"  {entries} entries; medians: " +
          ", ".join(f"{command} {statistics.median(medians):.2f} ms" for command, medians in shown.items()))
    return result_of(bench.case, "ms", worst, [CTL_TARGET_MS] * len(worst))


@case("warm", ">= 0.9")
def warm(bench):
    """`cachedctl warm` of one large file into memory: its throughput against direct reads of the source, 16 in flight."""
    source, file_list = bench.data("big")
    [(size, _)] = files_of(file_list)
    daemon = bench.daemon(source, HOLDS_BIG)

    def run(command):
        line = [bench.program("cachedctl"), "--socket", daemon.control, command, "data", "--json"]
        return json.loads(output_of(line))["jobs"][0]

    def warmed():
        run("evict")
        before, begin = daemon.origin_bytes(), time.monotonic()
        run("warm")
        took = time.monotonic() - begin
        if daemon.origin_bytes() - before != size:
            raise BenchError(f"the origin gave {daemon.origin_bytes() - before} bytes of {size}")
        return size / took / 1e6

    def origin():
        return mb_per_s(bench.load(f"--filename={source}/big", "--engine=io_uring", f"--iodepth={WARM_DEPTH}", "--bs=1m",
                                   "--rw=read", "--direct")[0])

    cached, floor = in_turns(bench.runs(5), warmed, origin)
    return result_of(bench.case, "MB/s", cached, floor)


@case("counters", ">= 0.98")
def counters(bench):
    """4 KiB random hits in shared memory, one thread: the rate with the counters of users and data sets against without.

    Everything else that is counted by data set is counted where blocks come and go, which no hit passes.
    """
    daemon = warm_shm_daemon(bench)
    medians = ([], [])

    def rate(side, *arguments):
        job = bench.load("--engine=shm", f"--socket={daemon.socket}", "--volume=data", "--filename=big", "--bs=4k",
                         "--rw=randread", "--runtime=1s", "--time_based", "--ramp_time=200ms", *arguments)[0]
        medians[side].append(p50_us(job))
        return job["read"]["iops"]

    with daemon.all_from_memory():
        cached, floor = in_turns(bench.runs(15), lambda: rate(0), lambda: rate(1, "--uncounted"))
    print("  p50 of one read: counted {:.3f} us, uncounted {:.3f} us".format(*map(statistics.median, medians)))
    return result_of(bench.case, "IOPS", cached, floor)
