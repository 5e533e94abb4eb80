"""Cases of peers: rclone and JuiceFS on the same machine, in turns with cached; the floor of the line is the peer.

The kernel's caches are dropped before each turn of either side. A peer's "memory" is its own memory cache or a cache
directory in a tmpfs; its "SSD" is a cache directory on the disk that cached's device file lies on.
"""

import proc
from data_sets import MIB, files_of
from harness import case, in_turns, mb_per_s, result_of
from memory_cases import HOLDS_BIG, HOLDS_SMALL
from peer_setup import Juicefs, Rclone
from ssd_read_cases import DATA_BYTES, SMALL_ARENA
from ssd_setup import SsdNode, device_bytes_for

SSD_DEPTH = 16
SSD_TURN_BYTES = "512m"  # a quarter of the data; each block once, so that what a turn reads it reads from the SSD
COLD_FILES = 5_000


def iops(job):
    return job["read"]["iops"]


def peer_4k(bench, make_peer, depth):
    """4 KiB random O_DIRECT reads of one file that both have in memory."""
    source, file_list = bench.data("big")
    daemon = bench.daemon(source, HOLDS_BIG)
    sides = [bench.mount(daemon), make_peer(bench, source, file_list).mount()]
    for side in sides:
        bench.load(f"--filename={side.path}/big", "--bs=1m", "--rw=read")

    def measure(side):
        proc.drop_kernel_caches()
        return iops(bench.load(f"--filename={side.path}/big", "--engine=io_uring", f"--iodepth={depth}", "--bs=4k",
                               "--rw=randread", "--direct", "--time_based", "--runtime=1500ms", "--ramp_time=200ms")[0])

    with daemon.all_from_memory():
        return result_of(bench.case, "IOPS", *in_turns(bench.runs(5), lambda: measure(sides[0]), lambda: measure(sides[1])))


def peer_ssd_128k(bench, make_peer):
    """128 KiB random O_DIRECT reads, 16 in flight, of one file that both have on their SSD, and neither in memory."""
    node = SsdNode(bench, "ssd", SMALL_ARENA, [device_bytes_for(DATA_BYTES) + 64 * MIB])
    node.fill()
    source, file_list = bench.data("ssd")
    sides = [bench.mount(node.daemon), make_peer(bench, source, file_list).mount(in_memory=False)]
    bench.load(f"--filename={sides[1].path}/ssd", "--bs=1m", "--rw=read")
    seeds = iter(range(1, 1000))

    def measure(side):
        proc.drop_kernel_caches()
        return mb_per_s(bench.load(f"--filename={side.path}/ssd", "--engine=io_uring", f"--iodepth={SSD_DEPTH}", "--bs=128k",
                                   "--rw=randread", "--direct", f"--size={SSD_TURN_BYTES}", f"--randseed={next(seeds)}")[0])

    return result_of(bench.case, "MB/s", *in_turns(bench.runs(5), lambda: measure(sides[0]), lambda: measure(sides[1])))


def small_load(bench, path, file_list, *more):
    return bench.load("--workload=smallfiles", f"--filelist={file_list}", "--bs=128k", f"--directory={path}", *more)[0]


def peer_small_files(bench, make_peer):
    """20,000 small files in random order, that both have in memory."""
    source, file_list = bench.data("small")
    daemon = bench.daemon(source, HOLDS_SMALL)
    sides = [bench.mount(daemon), make_peer(bench, source, file_list).mount()]
    for side in sides:
        small_load(bench, side.path, file_list, "--in-order")

    def measure(side):
        proc.drop_kernel_caches()
        return iops(small_load(bench, side.path, file_list))

    with daemon.all_from_memory():
        return result_of(bench.case, "files/s", *in_turns(bench.runs(5), lambda: measure(sides[0]), lambda: measure(sides[1])))


def peer_small_files_cold(bench, make_peer):
    """The first 5,000 of these files in directory order, by one reader, with nothing cached anywhere."""
    source, whole_list = bench.data("small")
    file_list = bench.work / "cold.list"
    file_list.write_text("".join(f"{size} {path}\n" for size, path in files_of(whole_list)[:COLD_FILES]))
    peer = make_peer(bench, source, file_list)

    def measure(start):
        with bench.scope():
            side = start()
            proc.drop_kernel_caches()
            return iops(small_load(bench, side.path, file_list, "--in-order"))

    turns = in_turns(bench.runs(5), lambda: measure(lambda: bench.mount(bench.daemon(source, HOLDS_SMALL))),
                     lambda: measure(peer.mount))
    proc.drop_kernel_caches()
    direct = iops(small_load(bench, source, file_list, "--in-order"))
    bench.note(f"the source itself, without any cache, gives {direct:.0f} files/s to one reader")
    return result_of(bench.case, "files/s", *turns)


# The same cases for each peer ---------------------------------------------------------------------------------------------

KINDS = (
    ("4k", ">= 3", lambda bench, peer: peer_4k(bench, peer, 1),
     "4 KiB random O_DIRECT reads, one in flight, all in memory: rate against {peer}'s"),
    ("4k-qd16", ">= 6", lambda bench, peer: peer_4k(bench, peer, 16),
     "4 KiB random O_DIRECT reads, 16 in flight, all in memory: rate against {peer}'s"),
    ("ssd-128k", ">= 3", peer_ssd_128k,
     "128 KiB random O_DIRECT reads, 16 in flight, from the SSD: MB/s against {peer}'s, with its cache on the same disk"),
    ("smallfiles", ">= 3", peer_small_files,
     "20,000 small files in random order from memory, kernel caches dropped: files/s against {peer}'s"),
    ("smallfiles-cold", ">= 6", peer_small_files_cold,
     "5,000 small files in directory order, nothing cached: files/s against {peer}'s"),
)


def register(peer, make_peer):
    for kind, target, measure, text in KINDS:
        def run(bench, measure=measure):
            return measure(bench, make_peer)
        run.__doc__ = text.format(peer=peer) + "."
        case(f"peer-{peer.lower()}-{kind}", target)(run)


register("rclone", Rclone)
register("JuiceFS", Juicefs)
