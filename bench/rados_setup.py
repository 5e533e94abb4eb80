"""What the rados cases share: a real Ceph cluster of one OSD, data sets in it, and librados alone on the same objects.

The cluster that is read from is kept in the folder of the data with what was imported into it, and runs during a case
only. Cases that write get one of their own.
"""

import dataclasses
import json
import pathlib
import re
import socket
import struct
import time

import proc
from data_sets import GIB, files_of, prepare_data
from harness import REPOSITORY, BenchError, output_of, volume_section
from ssd_setup import cpu_seconds

SCRIPT = REPOSITORY / "scripts" / "ceph-cluster.sh"
COMMAND_TIMEOUT_S = 200
IDLE_CPU_NS = 2_000_000  # of a daemon in a fifth of a second
COUNTERS = ("op_r", "op_r_out_bytes", "op_w", "op_w_in_bytes")
DATA_POOL, METADATA_POOL, OBJECTS_POOL = "data", "meta", "objects"
OSD_BYTES = 48 * GIB  # a sparse file; more than any case writes, BlueStore aborts when it is full
PIECE_BYTES = 4 << 20


def run(command):
    return output_of(command, COMMAND_TIMEOUT_S)


def ask_daemon(path, **command):
    """The answer of a Ceph daemon's admin socket, as text."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(COMMAND_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(json.dumps(command).encode() + b"\0")
        with connection.makefile("rb") as stream:
            [length] = struct.unpack(">I", stream.read(4))
            return stream.read(length).decode()


class Cluster:
    """A running cluster in a folder; `end` is the script's command at the end of the case."""

    def __init__(self, bench, folder, start, end):
        self.bench, self.folder, self.conf = bench, folder, folder / "ceph.conf"
        bench.stack.callback(run, [SCRIPT, end, folder])
        run([SCRIPT, *start, "--owner", bench.owner])

    def counters(self):
        """The OSD's own count of what clients asked of it."""
        osd = json.loads(ask_daemon(self.folder / "osd.0.asok", prefix="perf dump", logger="osd"))["osd"]
        return {name: osd[name] for name in COUNTERS}

    def make_cold(self):
        """The OSD forgets what it has read, and so does the kernel."""
        ask_daemon(self.folder / "osd.0.asok", prefix="cache drop")
        proc.drop_kernel_caches()

    def loop(self, command, pool, file_list, *arguments):
        """Runs cached-rados-loop: librados alone."""
        return Sample.of_loop(self, lambda: json.loads(run(
            [self.bench.program("cached-rados-loop"), command, "--conf", self.conf, "--pool", pool, "--list", file_list,
             *arguments])))

    def rados_bench_mb_per_s(self, seconds):
        """What `rados bench` writes in objects of 4 MiB, 16 in flight."""
        text = run(["rados", "--conf", self.conf, "-p", DATA_POOL, "bench", seconds, "write", "-b", PIECE_BYTES, "-t", 16,
                    "--no-cleanup"])
        figure = {name: float(value) for name, value in re.findall(r"^(Total [a-z ]+):\s+([0-9.]+)", text, re.MULTILINE)}
        return figure["Total writes made"] * PIECE_BYTES / figure["Total time run"] / 1e6

    def volume_keys(self, name):
        """The keys of a [[volume]] for a data set."""
        return {"source": f"rados:{DATA_POOL}/{name}", "metadata_pool": METADATA_POOL, "ceph_conf": self.conf}

    def import_tree(self, directory, name):
        """The report of `cachedctl import`."""
        config = self.bench.new_path("import").with_suffix(".toml")
        config.write_text('[memory]\nsize = "64MiB"\n' + volume_section(name, self.volume_keys(name)))
        return json.loads(run([self.bench.program("cachedctl"), "import", directory, name, "--config", config, "--json"]))


@dataclasses.dataclass
class Sample:
    """One turn on either side."""
    seconds: float
    bytes: int
    files: int           # or reads
    cpu_s: float         # of everything but the OSD
    osd: dict            # what the OSD counted

    @staticmethod
    def of_loop(cluster, measure):
        before = cluster.counters()
        report = measure()
        return Sample(report["seconds"], report["bytes"], report["operations"], report["cpu_seconds"],
                      difference(before, cluster.counters()))

    @property
    def mb_per_s(self):
        return self.bytes / 1e6 / self.seconds

    @property
    def files_per_s(self):
        return self.files / self.seconds

    @property
    def cpu_s_per_gb(self):
        return self.cpu_s / (self.bytes / 1e9)


def difference(before, after):
    return {name: after[name] - before[name] for name in after}


def osd_text(osd):
    reads = f"{osd['op_r']} reads of {osd['op_r_out_bytes'] / 1e6:.1f} MB"
    return reads + (f", {osd['op_w']} writes of {osd['op_w_in_bytes'] / 1e6:.1f} MB" if osd["op_w"] else "")


def print_osd(what, osd):
    print(f"  the OSD counted for {what}: {osd_text(osd)}")


# The cluster that is kept ---------------------------------------------------------------------------------------------

def kept_cluster(bench):
    """The cluster that is read from, as the last case left it, or a new one."""
    folder = bench.data_directory / "ceph"
    try:
        if (folder / "bench").is_dir():
            return Cluster(bench, folder, ["resume", folder], "halt")
    except BenchError as error:
        print(f"  the cluster in {folder} is of no use any more and is made anew: {error}")
    run([SCRIPT, "stop", folder])
    cluster = Cluster(bench, folder, ["start", folder, "--osd-size", f"{OSD_BYTES // GIB}GiB", "--pool", DATA_POOL,
                                      "--pool", METADATA_POOL, "--pool", OBJECTS_POOL], "halt")
    (folder / "bench").mkdir()
    return cluster


def new_cluster(bench, *options):
    """A cluster for one case, which writes; `options` are more of the script's."""
    return Cluster(bench, bench.work / "ceph", ["start", bench.work / "ceph", "--osd-size", f"{OSD_BYTES // GIB}GiB",
                                                "--pool", DATA_POOL, "--pool", METADATA_POOL, *options], "stop")


def idle_daemon(bench, keys, memory):
    """A daemon with this volume, when it has prepared its memory and has nothing to do any more."""
    daemon = bench.daemon(keys, memory)
    before = 0
    while (now := proc.cpu_ns(daemon.pid)) > before + IDLE_CPU_NS:
        before = now
        time.sleep(0.2)
    return daemon


class DataSet:
    """A data set in the kept cluster, imported once."""

    def __init__(self, bench, cluster, name):
        self.bench, self.cluster, self.name = bench, cluster, name
        home = cluster.folder / "bench"
        self.file_list, self.object_list = home / f"{name}.list", home / f"{name}.objects"
        if not self.file_list.is_file():
            self._make()
        self.files = files_of(self.file_list)

    def _make(self):
        home = self.bench.new_path("source")
        home.mkdir()
        source, file_list = prepare_data(home, self.name)
        print(f"  importing it into the cluster (once)", flush=True)
        report = self.cluster.import_tree(source, self.name)
        (self.object_list.with_suffix(".json")).write_text(json.dumps(report))
        names = run(["rados", "--conf", self.cluster.conf, "-p", DATA_POOL, "ls"]).split()
        # Of use for a data set of one file, whose pieces are all whole.
        self.object_list.write_text("".join(f"{PIECE_BYTES} {name}\n" for name in sorted(names)
                                            if name.startswith(f"{self.name}/d.")))
        self.file_list.write_text(pathlib.Path(file_list).read_text())

    def write_objects(self):
        """Each file as an object of its own in the pool OBJECTS_POOL, once."""
        mark = self.file_list.with_suffix(".written")
        if not mark.exists():
            print("  writing an object for each file (once)", flush=True)
            self.cluster.loop("write", OBJECTS_POOL, self.file_list)
            mark.touch()

    def daemon(self, memory):
        """A cold daemon on a cold OSD."""
        self.cluster.make_cold()
        return idle_daemon(self.bench, self.cluster.volume_keys(self.name), memory)

    def load(self, memory, *arguments):
        """Reads through a cold daemon with cached-bench, engine shm."""
        with self.bench.scope():
            daemon = self.daemon(memory)
            counted, cpu_ns = self.cluster.counters(), proc.cpu_ns(daemon.pid)
            job = self.bench.load("--engine=shm", f"--socket={daemon.socket}", "--volume=data", *arguments)[0]
            cpu_s = (proc.cpu_ns(daemon.pid) - cpu_ns) / 1e9 + cpu_seconds(job)
            read = job["read"]
            return Sample(read["io_bytes"] / read["bw_bytes"], read["io_bytes"], read["total_ios"], cpu_s,
                          difference(counted, self.cluster.counters()))

    def loop_on_pieces(self, *arguments):
        """librados alone on the pieces of the one file of this data set."""
        self.cluster.make_cold()
        return self.cluster.loop("read", DATA_POOL, self.object_list, *arguments)

    def loop_on_files(self, *arguments):
        """librados alone on the objects of write_objects()."""
        self.cluster.make_cold()
        return self.cluster.loop("read", OBJECTS_POOL, self.file_list, *arguments)
