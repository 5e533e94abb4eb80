"""The peers that cached is measured against: how each is started, and where its cache lies."""

import shutil
import tempfile
import pathlib

from data_sets import files_of
from harness import BenchError, NotRun, output_of
from juicefs_setup import Redis

COMMAND_TIMEOUT_S = 600
CACHE_BYTES = "40G"
LONG = "1000h"  # how long what is cached holds, where a peer has a limit


def cache_directory(bench, in_memory):
    """A directory for a peer's cache, in a tmpfs or on the disk; gone with the scope that it is made in."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cached-bench-peer-", dir="/dev/shm" if in_memory else bench.work))
    bench.stack.callback(shutil.rmtree, path, ignore_errors=True)
    return path


def run(command):
    return output_of(command, COMMAND_TIMEOUT_S)


class Rclone:
    """rclone mount with its full VFS cache over the directory that cached has as its source."""

    OPTIONS = ["--vfs-cache-mode=full", "--read-only", "--allow-other", f"--dir-cache-time={LONG}", "--attr-timeout=1h",
               "--poll-interval=0", f"--vfs-cache-max-age={LONG}", f"--vfs-cache-poll-interval={LONG}",
               "--vfs-fast-fingerprint", "--config=/dev/null"]

    def __init__(self, bench, source, file_list):
        del file_list  # what it serves is what lies there
        if shutil.which("rclone") is None:
            raise BenchError("there is no rclone; scripts/install-packages.sh installs it")
        self.bench, self.source = bench, source
        bench.note(f"peer: {run(['rclone', 'version']).splitlines()[0]}, mount {' '.join(self.OPTIONS)}")

    def mount(self, in_memory=True):
        """A mount with an empty cache."""
        path = self.bench.new_path("rclone")
        cache = cache_directory(self.bench, in_memory)
        command = ["rclone", "mount", self.source, path, *self.OPTIONS, f"--cache-dir={cache}"]
        return self.bench.start_mount("rclone", command, path)


class Juicefs:
    """The JuiceFS client: metadata in a Redis of the case's own, blocks as files on the disk that cached's source is on.

    Redis listens on a Unix socket. The files are copied in through a mount, once for each case.
    """

    NAME = "peer"
    OPTIONS = [f"--cache-size={CACHE_BYTES}", "--attr-cache=3600", "--entry-cache=3600", "--dir-entry-cache=3600",
               "--open-cache=3600", "--no-usage-report"]

    def __init__(self, bench, source, file_list):
        if bench.juicefs is None:
            raise NotRun("it needs a JuiceFS client: give --juicefs BINARY, or set CACHED_JUICEFS")
        self.bench, self.program = bench, bench.juicefs
        self.address = f"unix://{Redis(bench).path}?db=0"
        bench.note(f"peer: {run([self.program, 'version']).strip()}, storage file, mount {' '.join(self.OPTIONS)}")
        run([self.program, "format", "--storage", "file", "--bucket", f"{bench.new_path('juicefs-blocks')}/", "--trash-days",
             "0", self.address, self.NAME])
        self._copy_in(source, file_list)

    def _copy_in(self, source, file_list):
        with self.bench.scope():
            target = self._start(cache_directory(self.bench, in_memory=False), "--writeback=false")
            for directory in sorted({(target.path / path).parent for _, path in files_of(file_list)}):
                directory.mkdir(parents=True, exist_ok=True)
            for _, path in files_of(file_list):
                shutil.copyfile(source / path, target.path / path)

    def mount(self, in_memory=True):
        """A mount with an empty cache."""
        return self._start("memory" if in_memory else cache_directory(self.bench, in_memory=False), "--read-only")

    def _start(self, cache, *options):
        path = self.bench.new_path("juicefs")
        log = f"--log={path.with_suffix('.client.log')}"
        return self.bench.start_mount("juicefs", [self.program, "mount", *self.OPTIONS, *options, log, "--cache-dir", cache,
                                                  self.address, path], path)
