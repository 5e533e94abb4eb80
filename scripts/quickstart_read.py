#!/usr/bin/env python3
"""Reads a directory tree with several readers at once, for quickstart.sh.

    quickstart_read.py count DIRECTORY                           looks at names and sizes only
    quickstart_read.py read DIRECTORY --label TEXT --total BYTES    reads everything, showing progress on stderr
    quickstart_read.py checksum DIRECTORY --label TEXT --total BYTES   the same, and sums up what was read

Prints one line of JSON on stdout: files, bytes, seconds, and for checksum one sum over all names and contents that does
not depend on the order of reading. Files are taken in the order of their names until --limit bytes are reached, so that
two trees of the same content give the same files. Exit status 1 and one line for a file that cannot be read.

Reading and summing are two commands because summing in Python is slower than a warm cache, and would be what is measured.
"""
import argparse
import hashlib
import json
import os
import queue
import stat
import sys
import threading
import time
import zlib

PIECE_BYTES = 1024 * 1024
REPORT_SECONDS = 0.2
REPORT_SECONDS_WITHOUT_TERMINAL = 10


def walk(directory, limit_bytes):
    """Yields (path, size) of regular files in the order of their names, until their sizes reach the limit."""
    total = 0
    pending = [directory]
    while pending:
        entries = sorted(os.scandir(pending.pop()), key=lambda entry: entry.name)
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            information = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(information.st_mode):
                continue
            yield entry.path, information.st_size
            total += information.st_size
            if limit_bytes and total >= limit_bytes:
                return
        pending.extend(reversed(folders))


class Reading:
    """What the readers share."""

    def __init__(self, directory, with_checksum):
        self.directory = directory
        self.with_checksum = with_checksum
        self.paths = queue.Queue(maxsize=10000)
        self.lock = threading.Lock()
        self.files = 0
        self.bytes = 0
        self.checksum = 0
        self.error = None

    def reader(self):
        buffer = memoryview(bytearray(PIECE_BYTES))
        while (path := self.paths.get()) is not None:
            if self.error is None:
                try:
                    self.read_file(path, buffer)
                except OSError as error:
                    error.filename = error.filename or path  # a failed read does not name its file
                    self.error = error

    def read_file(self, path, buffer):
        crc = 0
        size = 0
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                size += count
                if self.with_checksum:
                    crc = zlib.crc32(buffer[:count], crc)
                with self.lock:
                    self.bytes += count
        name = os.fsencode(os.path.relpath(path, self.directory))
        digest = hashlib.sha256(b"%s\0%d %d" % (name, size, crc)).digest()
        with self.lock:
            self.files += 1
            self.checksum ^= int.from_bytes(digest[:16], "big")


class Progress:
    """A line on stderr that is overwritten on a terminal, and written anew now and then elsewhere."""

    def __init__(self, reading, label, total_bytes):
        self.reading, self.label, self.total_bytes = reading, label, total_bytes
        self.terminal = sys.stderr.isatty()
        self.begin = time.monotonic()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()
        if self.terminal:
            sys.stderr.write("\r\x1b[K")

    def run(self):
        interval = REPORT_SECONDS if self.terminal else REPORT_SECONDS_WITHOUT_TERMINAL
        while not self.stopping.wait(interval):
            done = self.reading.bytes
            rate = done / 1e6 / max(1e-9, time.monotonic() - self.begin)
            percent = min(100, 100 * done // self.total_bytes) if self.total_bytes else 0
            line = f"  {self.label}: {percent} %, {rate:.0f} MB/s"
            sys.stderr.write(f"\r{line}\x1b[K" if self.terminal else f"{line}\n")
            sys.stderr.flush()


def read_tree(arguments):
    reading = Reading(arguments.directory, arguments.command == "checksum")
    readers = [threading.Thread(target=reading.reader, daemon=True) for _ in range(arguments.readers)]
    begin = time.monotonic()
    with Progress(reading, arguments.label, arguments.total):
        for thread in readers:
            thread.start()
        for path, _ in walk(arguments.directory, arguments.limit):
            reading.paths.put(path)
            if reading.error:
                break
        for _ in readers:
            reading.paths.put(None)
        for thread in readers:
            thread.join()
    if reading.error:
        raise reading.error
    answer = {"files": reading.files, "bytes": reading.bytes, "seconds": round(time.monotonic() - begin, 3)}
    if reading.with_checksum:
        answer["checksum"] = f"{reading.checksum:032x}"
    return answer


def count_tree(arguments):
    sizes = [size for _, size in walk(arguments.directory, arguments.limit)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["count", "read", "checksum"])
    parser.add_argument("directory")
    parser.add_argument("--label", default="reading")
    parser.add_argument("--total", type=int, default=0, help="bytes expected, for the percentage")
    parser.add_argument("--limit", type=int, default=0, help="stop after about so many bytes; 0: read all")
    parser.add_argument("--readers", type=int, default=min(16, 2 * (os.cpu_count() or 1)))
    arguments = parser.parse_args()
    try:
        print(json.dumps(count_tree(arguments) if arguments.command == "count" else read_tree(arguments)))
    except OSError as error:
        sys.exit(f"quickstart_read.py: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
