"""JuiceFS volumes for the juicefs cases: metadata in a real redis-server, blocks as objects of the kept Ceph cluster, both
written by the format that cached/volume/juicefs_format.h describes.

The objects are written once and kept with the cluster. The metadata is written into a new Redis for each case.
"""

import json
import random
import socket
import struct
import subprocess
import time

from data_sets import MIB, small_plan
from harness import BenchError
from rados_setup import OBJECTS_POOL, idle_daemon, kept_cluster

BLOCK_BYTES = 4 * MIB
CHUNK_BYTES = 64 * MIB
FILE, DIRECTORY = 1, 2
TIME_S = 1_700_000_000  # long ago, so that nothing counts as changing
START_TIMEOUT_S = 30
PIPELINE = 2_000


def large_plan(_):
    yield "large", 1024 * MIB


def many_plan(_):
    for i in range(100_000):
        yield f"d{i // 1000:03}/f{i:06}", 0


PLANS = {"juicefs-large": large_plan, "juicefs-small": small_plan, "juicefs-many": many_plan}


class Redis:
    """A redis-server of this case's own, and commands to it."""

    def __init__(self, bench):
        directory = bench.new_path("redis")
        directory.mkdir()
        self.path = directory / "redis.sock"
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(self.path), "--dir",
                                         str(directory), "--save", "", "--appendonly", "no"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        bench.stack.callback(self._stop)
        begin = time.monotonic()
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex(str(self.path)) != 0:
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise BenchError("redis-server does not answer")
            time.sleep(0.02)
        self.file = self.socket.makefile("rb")

    def _stop(self):
        self.process.terminate()
        self.process.wait()

    def send(self, commands):
        """Runs commands and drops their answers, which must be no errors."""
        for begin in range(0, len(commands), PIPELINE):
            part = commands[begin:begin + PIPELINE]
            self.socket.sendall(b"".join(encode(command) for command in part))
            for _ in part:
                line = self.file.readline()
                if line[:1] not in b"+:":
                    raise BenchError(f"redis-server answers {line!r}")

    def calls(self):
        """How often each command was called: {"evalsha": 17, ...}."""
        self.socket.sendall(encode(("INFO", "commandstats")))
        text = self.file.read(int(self.file.readline()[1:]) + 2).decode()
        return {line.split(":")[0].removeprefix("cmdstat_"): int(line.split("calls=")[1].split(",")[0])
                for line in text.splitlines() if line.startswith("cmdstat_")}


def encode(command):
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def attributes(kind, mode, length, parent, nlink):
    times = struct.pack(">qI", TIME_S, 0) * 3
    return struct.pack(">BHII", 0, kind << 12 | mode, 0, 0) + times + struct.pack(">IQIQ", nlink, length, 0, parent) + b"\0"


class Volume:
    """A JuiceFS volume of the data set `name` in the kept cluster and a Redis of the case's own."""

    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        self.files = [(size, path) for path, size in PLANS[name](random.Random(name))]
        self.cluster = kept_cluster(bench)
        home = self.cluster.folder / "bench"
        self.file_list, self.object_list = home / f"{name}.list", home / f"{name}.blocks"
        self.redis = Redis(bench)
        self._write_metadata()
        self._write_blocks()

    def _write_metadata(self):
        setting = {"Name": self.name, "UUID": f"bench-{self.name}", "Storage": "ceph", "Bucket": f"ceph://{OBJECTS_POOL}",
                   "BlockSize": BLOCK_BYTES // 1024, "Compression": "none", "MetaVersion": 1}
        commands = [("SET", "setting", json.dumps(setting))]
        self.blocks, directories, ino, slice_id = [], {"": 1}, 1, 0
        for size, path in self.files:
            folder, _, name = path.rpartition("/")
            if folder not in directories:
                ino += 1
                directories[folder] = ino
                commands.append(("SET", f"i{ino}", attributes(DIRECTORY, 0o755, 4096, 1, 2)))
                commands.append(("HSET", "d1", folder, struct.pack(">BQ", DIRECTORY, ino)))
            ino += 1
            parent = directories[folder]
            commands.append(("SET", f"i{ino}", attributes(FILE, 0o644, size, parent, 1)))
            commands.append(("HSET", f"d{parent}", name, struct.pack(">BQ", FILE, ino)))
            for chunk, begin in enumerate(range(0, size, CHUNK_BYTES)):
                length = min(CHUNK_BYTES, size - begin)
                slice_id += 1
                commands.append(("RPUSH", f"c{ino}_{chunk}", struct.pack(">IQIII", 0, slice_id, length, 0, length)))
                for index, at in enumerate(range(0, length, BLOCK_BYTES)):
                    block = min(BLOCK_BYTES, length - at)
                    self.blocks.append((block, f"{self.name}/chunks/{slice_id // 10**6}/{slice_id // 1000}/"
                                               f"{slice_id}_{index}_{block}"))
        commands.append(("SET", "i1", attributes(DIRECTORY, 0o777, 4096, 1, 2 + len(directories))))
        self.redis.send(commands)

    def _write_blocks(self):
        lines = "".join(f"{size} {name}\n" for size, name in self.blocks)
        if self.object_list.exists() and self.object_list.read_text() == lines:
            return
        print(f"  writing {len(self.blocks)} blocks into the cluster (once)", flush=True)
        pending = self.object_list.with_suffix(".pending")
        pending.write_text(lines)
        if self.blocks:
            self.cluster.loop("write", OBJECTS_POOL, pending)
        self.file_list.write_text("".join(f"{size} {path}\n" for size, path in self.files))
        pending.rename(self.object_list)

    def daemon(self, memory):
        """A cold daemon on a cold OSD."""
        self.cluster.make_cold()
        keys = {"source": f"juicefs:unix://{self.redis.path}?db=0", "ceph_conf": self.cluster.conf}
        return idle_daemon(self.bench, keys, memory)

    def loop(self, *arguments):
        """librados alone on the same objects; the OSD cold."""
        self.cluster.make_cold()
        return self.cluster.loop("read", OBJECTS_POOL, self.object_list, *arguments)
