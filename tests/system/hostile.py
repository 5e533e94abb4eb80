"""A client that speaks the protocol wrongly, in every way that test_hostile.py names.

    python3 hostile.py SOCKET VOLUME BEHAVIOUR SECONDS [SEED]

It repeats the behaviour until its time is over and prints how often, as JSON. The layouts are those of shm/session_layout.h
and shm/handshake.h, written down a second time: a client of another language sees nothing else.
"""

import array
import contextlib
import json
import mmap
import os
import random
import select
import socket
import struct
import sys
import threading
import time

HELLO = struct.Struct("<QIIIIQQQQ128s256sQ7Q")
WELCOME_BYTES = 520
MAGIC = 0x314F4C4C45484343
VERSION = 1
PAGE = 4096
CONNECT_TIMEOUT_S = 20
QUEUES, DEPTH, BUFFER = 4, 64, 2 << 20
SUBMISSION = struct.Struct("<QBBHI16s16sQQIIIIQ40x")
LOOKUP, READ, RELEASE, PREFETCH, READ_DIRECTORY = 1, 4, 5, 6, 8
HAZARDS, TOUCHES, COUNTERS, SUBMISSIONS = 320, 896, 1920, 2432
SUBMISSION_TAIL, SUBMISSION_HEAD, COMPLETION_TAIL, COMPLETION_HEAD, TOUCH_HEAD = 0, 64, 128, 192, 256
assert HELLO.size == 504 and SUBMISSION.size == 128


def hello(volume_name, **changes):
    fields = {"magic": MAGIC, "version": VERSION, "queues": QUEUES, "depth": DEPTH, "buffer": BUFFER,
              "volume": volume_name.encode(), "label": b"hostile"} | changes
    return HELLO.pack(fields["magic"], fields["version"], fields["queues"], fields["depth"], 0, fields["buffer"], 1, 2, 0,
                      fields["volume"], fields["label"], 0, *[0] * 7)


def connect(connection, path):
    """Waits for room in the daemon's queue of connections, which another behaviour may have filled."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            return connection.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Client:
    """A session made by hand."""

    def __init__(self, path, volume):
        self.fds = []
        self.memory = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        connect(self.socket, path)
        self.socket.send(hello(volume))
        packet, ancillary, _, _ = self.socket.recvmsg(WELCOME_BYTES, socket.CMSG_SPACE(4 * 80))
        for _, _, data in ancillary:
            fds = array.array("i")
            fds.frombytes(data[:len(data) - len(data) % 4])
            self.fds += fds
        error = struct.unpack_from("<i", packet, 12)[0]
        if error != 0:
            raise ConnectionRefusedError(error, packet[200:456].split(b"\0")[0].decode())
        self.root = packet[32:48]
        self.memory = mmap.mmap(self.fds[2], os.fstat(self.fds[2]).st_size)
        geometry = struct.unpack_from("<QQIIIIQQQQ", self.memory, 0)
        self.queues_offset, self.stride, self.buffers_offset, self.buffer_bytes = geometry[6:10]

    def close(self):
        if self.memory is not None:
            self.memory.close()
        for fd in self.fds:
            os.close(fd)
        self.socket.close()

    def area(self, queue):
        return self.queues_offset + self.stride * queue

    def put(self, queue, at, form, *values):
        struct.pack_into(form, self.memory, self.area(queue) + at, *values)

    def get(self, queue, at, form):
        return struct.unpack_from(form, self.memory, self.area(queue) + at)[0]

    def ring(self, queue):
        for shard, fd in enumerate(self.fds[3:]):
            at = 256 + 64 * shard
            struct.pack_into("<Q", self.memory, at, struct.unpack_from("<Q", self.memory, at)[0] | 1 << queue)
            with contextlib.suppress(OSError):
                os.write(fd, struct.pack("<Q", 1))

    def submit(self, queue, entry):
        tail = self.get(queue, SUBMISSION_TAIL, "<I")
        self.put(queue, SUBMISSIONS + 128 * (tail % DEPTH), "128s", entry)
        self.put(queue, SUBMISSION_TAIL, "<I", tail + 1 & 0xFFFFFFFF)
        self.ring(queue)

    def completion(self, queue, timeout_s=5):
        """The next completion: (number, status, flags, result), or None."""
        head = self.get(queue, COMPLETION_HEAD, "<I")
        deadline = time.monotonic() + timeout_s
        while self.get(queue, COMPLETION_TAIL, "<I") == head:
            if time.monotonic() > deadline or self.ended():
                return None
            time.sleep(0.001)
        at = self.area(queue) + SUBMISSIONS + 128 * DEPTH + 192 * (head % DEPTH)
        self.put(queue, COMPLETION_HEAD, "<I", head + 1 & 0xFFFFFFFF)
        return struct.unpack_from("<QiIQ", self.memory, at)

    def ended(self):
        poller = select.poll()
        poller.register(self.socket, select.POLLIN | select.POLLHUP)
        return bool(poller.poll(0))

    def wait_for_end(self, timeout_s=10):
        poller = select.poll()
        poller.register(self.socket, select.POLLIN | select.POLLHUP)
        return bool(poller.poll(timeout_s * 1000))

    def files(self):
        """(handle, object, size) of the regular files at the root, by READDIR with attributes."""
        self.submit(0, entry(number=1, opcode=READ_DIRECTORY, flags=1, handle=self.root, buffer_length=1 << 20))
        answer = self.completion(0)
        found = []
        at, end = self.buffers_offset, self.buffers_offset + (answer[3] if answer else 0)
        while at < end:
            record_bytes, _, kind, has_info = struct.unpack_from("<IHBB", self.memory, at)
            info = self.memory[at + 24:at + 24 + 152]
            if kind == 8 and has_info:
                found.append((info[0:16], info[24:40], struct.unpack_from("<Q", info, 56)[0]))
            at += record_bytes
        return found


def entry(number=1, opcode=READ, flags=0, length=0, handle=bytes(16), object_id=bytes(16), offset=0, pinned=0,
          buffer_offset=0, buffer_length=BUFFER, input_length=0):
    return SUBMISSION.pack(number, opcode, flags, 0, length, handle, object_id, offset, pinned, buffer_offset, buffer_length,
                           input_length, 0, 0)


@contextlib.contextmanager
def session(path, volume):
    client = Client(path, volume)
    try:
        yield client
    finally:
        client.close()


# -- behaviours: each plays once ------------------------------------------------------------------------------------------


def malformed_hello(path, volume, rng):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(20)
        connect(connection, path)
        good = hello(volume)
        packet = rng.choice([
            rng.randbytes(rng.randrange(1, 2000)), good[:rng.randrange(1, 504)], good + b"x", hello(volume, version=99),
            hello(volume, magic=rng.getrandbits(64)), hello(volume, queues=rng.getrandbits(32)),
            hello(volume, depth=rng.getrandbits(32)), hello(volume, buffer=rng.getrandbits(64)),
            hello(volume, volume=b"x" * 128), hello(volume, label=rng.randbytes(256)), hello("no such volume\n\x1b[31m")])
        fds = [sys.stdout.fileno()] * rng.choice([0, 1, 250])
        connection.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        with contextlib.suppress(OSError):
            answer, ancillary, _, _ = connection.recvmsg(WELCOME_BYTES, socket.CMSG_SPACE(4 * 80))
            for _, _, data in ancillary:
                received = array.array("i")
                received.frombytes(data[:len(data) - len(data) % 4])
                for fd in received:
                    os.close(fd)


def random_entries(path, volume, rng):
    with session(path, volume) as client:
        for _ in range(50):
            queue = rng.randrange(QUEUES)
            raw = bytearray(entry(number=rng.getrandbits(64), opcode=rng.randrange(0, 14), length=rng.choice([0, 1, 4096, 1 << 20]),
                                  handle=client.root))
            for _ in range(rng.randrange(4)):
                at = rng.randrange(0, 128, 4)
                raw[at:at + 4] = rng.randbytes(4)
            client.submit(queue, bytes(raw))
            if client.ended():
                return


def rings_that_run_wild(path, volume, rng):
    with session(path, volume) as client:
        queue = rng.randrange(QUEUES)
        client.put(queue, SUBMISSION_TAIL, "<I", rng.choice([0xFFFFFF00, DEPTH + 1, 1 << 31, rng.getrandbits(32)]))
        client.put(queue, COMPLETION_HEAD, "<I", rng.getrandbits(32))
        client.put(queue, COMPLETION_TAIL, "<I", rng.getrandbits(32))
        client.put(queue, SUBMISSION_HEAD, "<I", rng.getrandbits(32))
        client.ring(queue)
        client.wait_for_end(1)


def entries_that_change(path, volume, rng):
    with session(path, volume) as client:
        stop = threading.Event()

        def change():
            while not stop.is_set():
                for queue in range(QUEUES):
                    at = client.area(queue) + SUBMISSIONS
                    for slot in range(DEPTH):
                        struct.pack_into("<I", client.memory, at + 128 * slot + 64, rng.getrandbits(32))
                        struct.pack_into("<I", client.memory, at + 128 * slot + 12, rng.getrandbits(21))

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for number in range(2000):
                client.submit(number % QUEUES, entry(number=number, length=4096, handle=client.root))
                client.completion(number % QUEUES, 0.01)
                if client.ended():
                    return
        finally:
            stop.set()
            thread.join()


def hazards_on_everything(path, volume, rng):
    with session(path, volume) as client:
        pages = os.fstat(client.fds[1]).st_size // PAGE
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for queue in range(QUEUES):
                client.put(queue, HAZARDS, "<72Q", *(rng.choice([rng.randrange(pages) + 1, rng.getrandbits(64)])
                                                     for _ in range(72)))
                client.put(queue, TOUCHES, "<256I", *(rng.getrandbits(32) for _ in range(256)))
                client.put(queue, TOUCH_HEAD, "<Q", rng.getrandbits(64))
                client.put(queue, COUNTERS, "<64Q", *(rng.getrandbits(64) for _ in range(64)))
            time.sleep(0.01)


def completions_never_taken(path, volume, rng):
    with session(path, volume) as client:
        for number in range(rng.randrange(1, 2 * DEPTH)):
            client.submit(0, entry(number=number, opcode=LOOKUP, handle=client.root, input_length=8))
            if client.ended():
                return
        time.sleep(0.3)


def pins_never_released(path, volume, rng):
    with session(path, volume) as client:
        files = client.files()
        number = 100
        for _ in range(6):
            for handle, object_id, size in rng.sample(files, len(files)):
                for offset in range(0, min(size, 4 << 20), 1 << 20):
                    number += 1
                    client.submit(0, entry(number=number, handle=handle, object_id=object_id, offset=offset,
                                           length=min(1 << 20, size - offset)))
                    if client.completion(0) is None:
                        return
        time.sleep(1)


def connections_by_the_thousand(path, volume, rng):
    connections = []
    try:
        for _ in range(2000):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.setblocking(False)
            connections.append(connection)
            try:
                connection.connect(path)
            except BlockingIOError:
                time.sleep(0.001)  # its queue is full
            except OSError:
                break
    finally:
        for connection in connections:
            connection.close()


def descriptors_that_are_not_his(path, volume, rng):
    with session(path, volume) as client:
        for fd in client.fds[:2]:
            for attempt in (lambda: mmap.mmap(fd, PAGE), lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0),
                            lambda: os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_TRUNC))):
                with contextlib.suppress(OSError, ValueError):
                    attempt()
                    raise SystemExit("index or arena could be written")
        for attempt in (lambda: os.ftruncate(client.fds[2], 0), lambda: os.ftruncate(client.fds[2], 1 << 40)):
            with contextlib.suppress(OSError):
                attempt()
                raise SystemExit("the session's memory could be resized")
        for fd in client.fds[3:]:
            os.set_blocking(fd, False)
            with contextlib.suppress(OSError):
                os.write(fd, struct.pack("<Q", 0xFFFFFFFFFFFFFFFE))
            with contextlib.suppress(OSError):
                os.read(fd, 8)


BEHAVIOURS = (malformed_hello, random_entries, rings_that_run_wild, entries_that_change, hazards_on_everything,
              completions_never_taken, pins_never_released, connections_by_the_thousand, descriptors_that_are_not_his)


def main():
    path, volume, name, seconds = sys.argv[1:5]
    rng = random.Random(int(sys.argv[5]) if len(sys.argv) > 5 else 1)
    chosen = BEHAVIOURS if name == "all" else [behaviour for behaviour in BEHAVIOURS if behaviour.__name__ == name]
    played, refused = 0, 0
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        try:
            rng.choice(chosen)(path, volume, rng)
            played += 1
        except (ConnectionError, BrokenPipeError, TimeoutError):
            refused += 1
    print(json.dumps({"behaviour": name, "played": played, "refused": refused}))


if __name__ == "__main__":
    main()
