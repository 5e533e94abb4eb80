"""The peers that cached is measured against: how each is started, where its cache lies, and what cached reads beside it.

A peer has `origin`, the source of cached's volume with the same data; make_cold(), after which whatever lies beneath both
has forgotten what it has read; and mount(), a mount with an empty cache. The peers in Ceph have their data, and cached the
same tree as a data set, in one cluster of the case's own; each can put a tree into it.
"""

import concurrent.futures
import pathlib
import shutil
import tempfile

import proc
from data_sets import files_of
from harness import BenchError, NotRun, output_of
from juicefs_setup import Redis
from rados_setup import new_cluster

COMMAND_TIMEOUT_S = 600
CACHE_BYTES = "40G"
LONG = "1000h"  # how long what is cached holds, where a peer has a limit
COPIERS = 8


def cache_directory(bench, in_memory):
    """A directory for a peer's cache, in a tmpfs or on the disk; gone with the scope that it is made in."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cached-bench-peer-", dir="/dev/shm" if in_memory else bench.work))
    bench.stack.callback(shutil.rmtree, path, ignore_errors=True)
    return path


def run(command):
    return output_of(command, COMMAND_TIMEOUT_S)


def copy_tree(source, file_list, target):
    """Copies the files of a list, several at once."""
    files = [path for _, path in files_of(file_list)]
    for directory in sorted({(target / path).parent for path in files}):
        directory.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(COPIERS) as pool:
        list(pool.map(lambda path: shutil.copyfile(source / path, target / path), files))


class Rclone:
    """rclone mount with its full VFS cache over the directory that cached has as its source."""

    OPTIONS = ["--vfs-cache-mode=full", "--read-only", "--allow-other", f"--dir-cache-time={LONG}", "--attr-timeout=1h",
               "--poll-interval=0", f"--vfs-cache-max-age={LONG}", f"--vfs-cache-poll-interval={LONG}",
               "--vfs-fast-fingerprint", "--config=/dev/null"]

    def __init__(self, bench, source, file_list):
        del file_list  # what it serves is what lies there
        if shutil.which("rclone") is None:
            raise BenchError("there is no rclone; scripts/install-packages.sh installs it")
        self.bench, self.origin = bench, source
        bench.note(f"peer: {run(['rclone', 'version']).splitlines()[0]}, mount {' '.join(self.OPTIONS)}")

    def make_cold(self):
        proc.drop_kernel_caches()

    def mount(self, in_memory=True):
        path = self.bench.new_path("rclone")
        cache = cache_directory(self.bench, in_memory)
        command = ["rclone", "mount", self.origin, path, *self.OPTIONS, f"--cache-dir={cache}"]
        return self.bench.start_mount("rclone", command, path)


class PeerInCeph:
    """What the peers that keep their data in a Ceph cluster share."""

    VOLUME = "peer"

    def __init__(self, bench, source, file_list, *cluster_options):
        self.bench = bench
        self.cluster = new_cluster(bench, *cluster_options)
        self.prepare()
        self.put(source, file_list, "")
        self.cluster.import_tree(source, self.VOLUME)
        self.origin = self.cluster.volume_keys(self.VOLUME)

    def prepare(self):
        """Makes the peer's file system in the cluster."""
        raise NotImplementedError

    def put(self, source, file_list, name):
        """Copies a tree into the directory `name` of it ("": the root), until all is in the cluster."""
        raise NotImplementedError

    def make_cold(self):
        self.cluster.make_cold()

    def bytes_from_osd(self):
        """What the OSD gave to clients since it started."""
        return self.cluster.counters()["op_r_out_bytes"]


class Juicefs(PeerInCeph):
    """The JuiceFS client: metadata in a Redis of the case's own on a Unix socket, blocks as objects of a pool."""

    NAME, POOL = "peer", "juicefs"
    OPTIONS = [f"--cache-size={CACHE_BYTES}", "--attr-cache=3600", "--entry-cache=3600", "--dir-entry-cache=3600",
               "--open-cache=3600", "--no-usage-report"]

    def __init__(self, bench, source, file_list):
        if bench.juicefs is None:
            raise NotRun("it needs a JuiceFS client: give --juicefs BINARY, or set CACHED_JUICEFS")
        self.program = bench.juicefs
        super().__init__(bench, source, file_list, "--pool", self.POOL)

    def prepare(self):
        self.address = f"unix://{Redis(self.bench).path}?db=0"
        self.bench.note(f"peer: {run([self.program, 'version']).strip()}, storage ceph, mount {' '.join(self.OPTIONS)}")
        run([*self._client("format"), "--storage", "ceph", "--bucket", f"ceph://{self.POOL}", "--access-key", "ceph",
             "--secret-key", "client.admin", "--trash-days", "0", self.address, self.NAME])

    def put(self, source, file_list, name):
        run([*self._client("sync"), "--threads", COPIERS, f"{source}/", f"jfs://META/{name}/" if name else "jfs://META/"])

    def mount(self, in_memory=True):
        cache = "memory" if in_memory else cache_directory(self.bench, in_memory=False)
        path = self.bench.new_path("juicefs")
        command = [*self._client("mount"), *self.OPTIONS, "--read-only", f"--log={path.with_suffix('.client.log')}",
                   "--cache-dir", cache, self.address, path]
        return self.bench.start_mount("juicefs", command, path)

    def _client(self, command):
        """The client's command line; its store knows the cluster by the environment alone, and so does `sync` the volume."""
        return ["env", f"CEPH_CONF={self.cluster.conf}", "CEPH_ADMIN_SOCKET=none", "CEPH_LOG_FILE=none", f"META={self.address}",
                self.program, command]


class CephFuse(PeerInCeph):
    """ceph-fuse on a CephFS with one metadata server. It caches in memory alone, and O_DIRECT goes past that."""

    NAME = "peer"
    OPTIONS = ["--client_oc_size=4294967296", "--client_oc_max_objects=200000", "--client_cache_size=200000",
               "--client_readahead_max_bytes=8388608"]

    def __init__(self, bench, source, file_list):
        if shutil.which("ceph-fuse") is None:
            raise BenchError("there is no ceph-fuse; scripts/install-packages.sh installs it")
        super().__init__(bench, source, file_list, "--cephfs", self.NAME)

    def prepare(self):
        self.bench.note(f"peer: ceph-fuse of {run(['ceph', '--version']).strip()}, {' '.join(self.OPTIONS)}")

    def put(self, source, file_list, name):
        with self.bench.scope():
            copy_tree(source, file_list, self.mount().path / name)

    def mount(self, in_memory=True):
        if not in_memory:
            raise NotRun("ceph-fuse has no cache on an SSD")
        path = self.bench.new_path("cephfs")
        command = ["ceph-fuse", "-f", "--conf", self.cluster.conf, "--name", "client.admin", f"--log-file={path}.client.log",
                   *self.OPTIONS, path]
        return self.bench.start_mount("ceph-fuse", command, path)
