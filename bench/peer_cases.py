"""Cases of peers: rclone, JuiceFS and ceph-fuse on the same machine, in turns with cached; the floor of the line is the peer.

rclone and cached read one directory; the other peers and cached have their data in one Ceph cluster. The kernel's caches
are dropped before each turn of either side. A peer's "memory" is its own memory cache or a cache directory in a tmpfs; its
"SSD" is a cache directory on the disk that cached's device file lies on.
"""

import time

import proc
from data_sets import GIB, MIB, files_of
from harness import BenchError, case, in_turns, mb_per_s, result_of
from memory_cases import HOLDS_BIG, HOLDS_SMALL, compare_random_order, small_load
from peer_setup import CephFuse, Juicefs, Rclone
from rados_setup import idle_daemon
from ssd_read_cases import DATA_BYTES, SMALL_ARENA
from ssd_setup import FILL_PASSES, SsdNode, device_bytes_for

SSD_DEPTH = 16
SSD_TURN_BYTES = "512m"  # a quarter of the data; each block once, so that what a turn reads it reads from the SSD
SMALL_DEVICE_BYTES = 2 * GIB  # more than the small files are
ORIGIN_SHARE = 0.02  # of a pass over them, once the SSD has them
COLD_FILES = 5_000


def iops(job):
    return job["read"]["iops"]


def peer_4k(bench, make_peer, *engine):
    """4 KiB random O_DIRECT reads of one file that both have in memory."""
    source, file_list = bench.data("big")
    peer = make_peer(bench, source, file_list)
    daemon = bench.daemon(peer.origin, HOLDS_BIG)
    sides = [bench.mount(daemon), peer.mount()]
    for side in sides:
        bench.load(f"--filename={side.path}/big", "--bs=1m", "--rw=read")

    def measure(side):
        proc.drop_kernel_caches()
        return iops(bench.load(f"--filename={side.path}/big", *engine, "--bs=4k", "--rw=randread", "--direct", "--time_based",
                               "--runtime=1500ms", "--ramp_time=200ms")[0])

    with daemon.all_from_memory():
        return result_of(bench.case, "IOPS", *in_turns(bench.runs(5), lambda: measure(sides[0]), lambda: measure(sides[1])))


def peer_ssd_128k(bench, make_peer):
    """128 KiB random O_DIRECT reads, 16 in flight, of one file that both have on their SSD, and neither in memory."""
    source, file_list = bench.data("ssd")
    peer = make_peer(bench, source, file_list)
    node = SsdNode(bench, "ssd", SMALL_ARENA, [device_bytes_for(DATA_BYTES) + 64 * MIB], source=(peer.origin, file_list))
    node.fill()
    sides = [bench.mount(node.daemon), peer.mount(in_memory=False)]
    bench.load(f"--filename={sides[1].path}/ssd", "--bs=1m", "--rw=read")
    seeds = iter(range(1, 1000))

    def measure(side):
        proc.drop_kernel_caches()
        return mb_per_s(bench.load(f"--filename={side.path}/ssd", "--engine=io_uring", f"--iodepth={SSD_DEPTH}", "--bs=128k",
                                   "--rw=randread", "--direct", f"--size={SSD_TURN_BYTES}", f"--randseed={next(seeds)}")[0])

    return result_of(bench.case, "MB/s", *in_turns(bench.runs(5), lambda: measure(sides[0]), lambda: measure(sides[1])))


# Small files ----------------------------------------------------------------------------------------------------------

def peer_small_files(bench, make_peer):
    """20,000 small files in random order, that both have in memory."""
    source, file_list = bench.data("small")
    peer = make_peer(bench, source, file_list)
    daemon = bench.daemon(peer.origin, HOLDS_SMALL)
    sides = [bench.mount(daemon), peer.mount()]
    for side in sides:
        small_load(bench, side.path, file_list, "--in-order")
    with daemon.all_from_memory():
        return compare_random_order(bench, *sides, file_list)


def fill_with_small_files(bench, daemon, mount, file_list):
    """Reads all of them until the SSD has what memory has not."""
    size = sum(size for size, _ in files_of(file_list))
    for _ in range(FILL_PASSES):
        before = daemon.origin_bytes()
        proc.drop_kernel_caches()
        small_load(bench, mount.path, file_list)
        time.sleep(1)  # the writers write what they have
        if daemon.origin_bytes() - before <= ORIGIN_SHARE * size:
            return
    raise BenchError(f"the SSD does not hold the small files after {FILL_PASSES} passes")


def peer_small_files_ssd(bench, make_peer):
    """20,000 small files in random order, that both have on their SSD."""
    source, file_list = bench.data("small")
    peer = make_peer(bench, source, file_list)
    daemon = bench.daemon(peer.origin, SMALL_ARENA, devices=[(bench.work / "ssd", SMALL_DEVICE_BYTES)])
    sides = [bench.mount(daemon), peer.mount(in_memory=False)]
    small_load(bench, sides[1].path, file_list, "--in-order")
    fill_with_small_files(bench, daemon, sides[0], file_list)
    return compare_random_order(bench, *sides, file_list)


def peer_small_files_cold(bench, make_peer):
    """The first 5,000 of these files in directory order, by one reader, with nothing cached anywhere."""
    source, whole_list = bench.data("small")
    file_list = bench.work / "cold.list"
    file_list.write_text("".join(f"{size} {path}\n" for size, path in files_of(whole_list)[:COLD_FILES]))
    peer = make_peer(bench, source, file_list)

    def measure(start):
        with bench.scope():
            side = start()
            peer.make_cold()
            return iops(small_load(bench, side.path, file_list, "--in-order"))

    turns = in_turns(bench.runs(5), lambda: measure(lambda: bench.mount(idle_daemon(bench, peer.origin, HOLDS_SMALL))),
                     lambda: measure(peer.mount))
    proc.drop_kernel_caches()
    direct = iops(small_load(bench, source, file_list, "--in-order"))
    bench.note(f"the directory itself, without any cache, gives {direct:.0f} files/s to one reader")
    return result_of(bench.case, "files/s", *turns)


# With a cluster ---------------------------------------------------------------------------------------------------------

def peer_put(bench, make_peer):
    """The small files, from memory, into the cluster: `cachedctl import` against the peer's fastest way."""
    source, file_list = bench.data_in_memory("small")
    peer = make_peer(bench, source, file_list)
    files = len(files_of(file_list))
    turn = iter(range(1, 1000))

    def rate(put):
        begin = time.monotonic()
        put(f"put{next(turn)}")
        return files / (time.monotonic() - begin)

    return result_of(bench.case, "files/s", *in_turns(
        bench.runs(5), lambda: rate(lambda name: peer.cluster.import_tree(source, name)),
        lambda: rate(lambda name: peer.put(source, file_list, name))))


def peer_second_mount(bench, make_peer):
    """Bytes that the OSD gives for the small files to a second mount on the node, after a first one has read them all."""
    source, file_list = bench.data("small")
    peer = make_peer(bench, source, file_list)
    size = sum(size for size, _ in files_of(file_list))

    def read_by_second(mount):
        """Megabytes from the OSD."""
        with bench.scope():
            first, second = mount(), mount()
            small_load(bench, first.path, file_list, "--in-order")
            proc.drop_kernel_caches()
            before = peer.bytes_from_osd()
            small_load(bench, second.path, file_list, "--in-order")
            return (peer.bytes_from_osd() - before) / 1e6

    def by_cached():
        with bench.scope():
            daemon = bench.daemon(peer.origin, HOLDS_SMALL)
            return read_by_second(lambda: bench.mount(daemon))

    bench.note(f"the files have {size / 1e6:.0f} MB")
    return result_of(bench.case, "MB", *in_turns(bench.runs(5), by_cached, lambda: read_by_second(peer.mount)))


# The same cases for each peer ---------------------------------------------------------------------------------------------

KINDS = {
    # io_uring hands a read of a FUSE file to a thread of its own: with one in flight that is most of what one would measure.
    "4k": (">= 3", peer_4k, "4 KiB random O_DIRECT reads, one in flight, all in memory: rate against {peer}'s"),
    "4k-qd16": (">= 6", lambda bench, peer: peer_4k(bench, peer, "--engine=io_uring", "--iodepth=16"),
                "4 KiB random O_DIRECT reads, 16 in flight, all in memory: rate against {peer}'s"),
    "ssd-128k": (">= 3", peer_ssd_128k,
                 "128 KiB random O_DIRECT reads, 16 in flight, from the SSD: MB/s against {peer}'s, cache on the same disk"),
    "smallfiles": (">= 3", peer_small_files,
                   "20,000 small files in random order from memory, kernel caches dropped: files/s against {peer}'s"),
    "smallfiles-ssd": (">= 4", peer_small_files_ssd,
                       "20,000 small files in random order from the SSD, kernel caches dropped: files/s against {peer}'s"),
    "smallfiles-cold": (">= 6", peer_small_files_cold,
                        "5,000 small files in directory order, nothing cached: files/s against {peer}'s"),
    "put": (">= 8", peer_put, "20,000 small files put into the cluster: files/s against {peer}'s"),
    "second-mount": ("<= 0", peer_second_mount, "bytes from the OSD for the second mount of a tree: against {peer}'s"),
}
LOCAL = ("4k", "4k-qd16", "ssd-128k", "smallfiles", "smallfiles-ssd", "smallfiles-cold")
MEMORY_ALONE = ("4k", "4k-qd16", "smallfiles", "smallfiles-cold", "put", "second-mount")


def register(peer, make_peer, kinds, targets=True):
    """`targets`: False for a peer that none were set for."""
    for kind in kinds:
        target, measure, text = KINDS[kind]
        def run(bench, measure=measure):
            return measure(bench, make_peer)
        run.__doc__ = text.format(peer=peer) + "."
        case(f"peer-{peer.lower().replace('-', '')}-{kind}", target if targets else "stated")(run)


register("rclone", Rclone, LOCAL)
register("JuiceFS", Juicefs, KINDS)
register("ceph-fuse", CephFuse, MEMORY_ALONE, targets=False)
