"""Cases of what training does: an interpreter that starts from a mount, many mounts on one data set, records in LMDB."""

import os
import pathlib
import statistics

import proc
from data_sets import settle
from harness import BenchError, case, in_turns, result_of

MEMORY = "1GiB"
MOUNTS = 8
EIGHT_MOUNTS_ARENA = "384MiB"  # of each null file system: around the data set `cold`
LMDB_RECORDS = 20_000
LMDB_RECORD_BYTES = 12_000  # three pages in the file, for each record
PAGE_BYTES = 4096
NULL_ARENA = "memfd:nullfs-arena"


# An interpreter that starts from a mount ------------------------------------------------------------------------------

def made_once(bench, name, *command):
    """What a workload makes of itself below the folder of the data: made once and kept."""
    path = bench.data_directory / name / "content"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        print(f"  making {name} in {path.parent} (once)", flush=True)
        bench.load(*command, f"--make={path}")
        settle()
    return path


def python_tree(bench):
    return made_once(bench, "python-tree", "import")


def import_seconds(bench, tree, *options):
    [job] = bench.load("import", f"--directory={tree}", *options)
    return job["read"]["runtime_ns"] / 1e9


@case("import", "<= 1.5")
def import_packages(bench):
    """Start of a Python that imports 2,000 modules from a mount, after the first start: time against local ext4, pages hot.

    The floor is the same tree on the disk, all of it in the kernel's cache. The mount keeps the kernel's pages from one
    start to the next, as ext4 does.
    """
    tree = python_tree(bench)
    mount = bench.mount(bench.daemon(tree.parent, MEMORY))
    on_mount = mount.path / tree.name
    first = import_seconds(bench, on_mount)
    import_seconds(bench, tree)
    cached, floor = in_turns(bench.runs(7), lambda: import_seconds(bench, on_mount),
                             lambda: import_seconds(bench, tree))
    dropped = [import_seconds(bench, on_mount, "--drop_caches") for _ in range(3)]
    bench.note(f"the first start took {first:.2f} s; one with the kernel's caches dropped, from cached's memory, "
               f"{statistics.median(dropped):.2f} s")
    return result_of(bench.case, "s", cached, floor)


# Many mounts on one data set ------------------------------------------------------------------------------------------

@case("eight-mounts", ">= 0.9")
def eight_mounts(bench):
    """Eight mounts read one data set at once, all in memory, kernel caches dropped: sum of bytes/s against eight null fs's."""
    source, file_list = bench.data("cold")
    daemon = bench.daemon(source, MEMORY)
    mounts = [bench.mount(daemon) for _ in range(MOUNTS)]
    floors = [bench.null_mount(file_list, EIGHT_MOUNTS_ARENA) for _ in range(MOUNTS)]

    def measure(sides):
        directories = ":".join(str(side.path) for side in sides)
        *single, total = bench.load("shared", f"--directory={directories}", "--drop_caches")
        rates = [job["read"]["bw_bytes"] for job in single]
        uneven.append(max(rates) / min(rates))
        return total["read"]["bw_bytes"] / 1e6

    uneven = []
    measure(mounts[:1])
    with daemon.all_from_memory():
        cached, floor = in_turns(bench.runs(5), lambda: measure(mounts), lambda: measure(floors))
    bench.note(f"the fastest of eight mounts is at most {max(uneven):.2f} times as fast as the slowest")
    return result_of(bench.case, "MB/s", cached, floor)


# Records in LMDB ------------------------------------------------------------------------------------------------------

def lmdb_file(bench):
    return made_once(bench, "lmdb", "lmdb", f"--nrrecords={LMDB_RECORDS}", f"--bs={LMDB_RECORD_BYTES}")


def null_arena(mount):
    """Where in the memory of a null file system its buffer begins."""
    for line in pathlib.Path(f"/proc/{mount.pid}/maps").read_text().splitlines():
        if NULL_ARENA in line:
            return int(line.partition("-")[0], 16)
    raise BenchError(f"cached-nullfs (pid {mount.pid}) has no memory {NULL_ARENA}")


def fill_null_arena(mount, path):
    """Gives a null file system, which shows one file and has a buffer of its size, that file's bytes.

    The file begins at some page of the buffer and goes on at the buffer's start. Which page that is, the pages tell when
    they are numbered before.
    """
    content, begin = path.read_bytes(), null_arena(mount)
    with open(f"/proc/{mount.pid}/mem", "r+b", buffering=0) as memory:
        for page in range(0, len(content), PAGE_BYTES):
            os.pwrite(memory.fileno(), page.to_bytes(8), begin + page)
        with open(mount.path / path.name, "rb", buffering=0) as file:
            first = int.from_bytes(file.read(8))
        memory.seek(begin)
        memory.write(content[-first:] if first else b"")
        memory.seek(begin + first)
        memory.write(content[:len(content) - first])
    proc.drop_kernel_caches()
    if (mount.path / path.name).read_bytes() != content:
        raise BenchError("the null file system does not show the bytes that it was given")


@case("lmdb", ">= 0.8")
def lmdb(bench):
    """Records of 12 KB by key from an LMDB file by mmap, in memory, kernel caches dropped: records/s against the null fs's.

    The null file system's buffer holds the very same file. Read-ahead of the map is off, as data loaders open LMDB.
    """
    path = lmdb_file(bench)
    size_bytes = path.stat().st_size
    file_list = bench.work / "lmdb.list"
    file_list.write_text(f"{size_bytes} {path.name}\n")
    daemon = bench.daemon(path.parent, MEMORY)
    mount = bench.mount(daemon)
    floor = bench.null_mount(file_list, size_bytes)
    fill_null_arena(floor, path)
    bench.load(f"--filename={mount.path / path.name}", "--bs=1m", "--rw=read", "--direct")
    seeds = iter(range(1, 1000))

    def measure(side, *options):
        [job] = bench.load("lmdb", f"--filename={side.path / path.name}", "--drop_caches", f"--randseed={next(seeds)}", *options)
        return job["read"]["iops"]

    with daemon.all_from_memory():
        cached, null = in_turns(bench.runs(5), lambda: measure(mount), lambda: measure(floor))
        ahead = in_turns(3, lambda: measure(mount, "--readahead"), lambda: measure(floor, "--readahead"))
    bench.note("with the kernel's read-ahead: {:.3f} (cached {:.0f} records/s, floor {:.0f})".format(
        statistics.median(ahead[0]) / statistics.median(ahead[1]), *map(statistics.median, ahead)))
    return result_of(bench.case, "records/s", cached, null)
