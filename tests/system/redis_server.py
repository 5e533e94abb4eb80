"""A real redis-server for tests and benchmarks, on a Unix socket or a port of its own, and a client of a few lines."""

import os
import pathlib
import shutil
import socket
import subprocess
import time

START_TIMEOUT_S = 30


class RedisError(Exception):
    pass


class RedisClient:
    """Commands as tuples of str or bytes, one at a time or many in one go."""

    def __init__(self, path, database=0):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")
        self("SELECT", database)

    def close(self):
        self.file.close()
        self.socket.close()

    def __call__(self, *arguments):
        reply = self.pipeline([arguments])[0]
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def pipeline(self, commands):
        self.socket.sendall(b"".join(self._encode(command) for command in commands))
        return [self._reply() for _ in commands]

    @staticmethod
    def _encode(command):
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

    def _reply(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2]
        return [self._reply() for _ in range(int(rest))]


class RedisServer:
    """`start_process(name, command)` starts it, so that whoever tests ends it."""

    def __init__(self, directory, start_process, rdb=None, options=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.socket = self.directory / "redis.sock"
        self.start_process = start_process
        self.options = list(options)
        if rdb is not None:
            shutil.copy(rdb, self.directory / "dump.rdb")
        self.process = None

    def start(self):
        self.process = self.start_process("redis", [
            "redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory), "--save", "",
            "--appendonly", "no", "--daemonize", "no", *self.options])
        begin = time.monotonic()
        while True:
            try:
                self.client().close()
                return
            except (OSError, RedisError):
                if time.monotonic() - begin > START_TIMEOUT_S:
                    raise
                time.sleep(0.02)

    def client(self, database=0):
        return RedisClient(self.socket, database)

    def stop(self, save=True):
        """Ends it; what it holds is there again after start()."""
        with_data = self.client()
        try:
            with_data("SHUTDOWN", "SAVE" if save else "NOSAVE")
        except ConnectionError:
            pass
        with_data.close()
        self.process.wait(START_TIMEOUT_S)


def have_redis():
    return shutil.which("redis-server") is not None


def extract(archive, directory):
    """Unpacks a .tar.zst."""
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(directory)], check=True)
