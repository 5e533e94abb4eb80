"""The files at a mount's root that no listing shows: .config and .accesslog (.stats: test_metrics.py)."""

import errno
import json
import os
import re
import signal
import stat
import unittest

from harness import NOBODY, START_TIMEOUT_S, SystemTest, thread_states, wait_until

LINE = re.compile(r"^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d\.\d{6} \[uid:(\d+),gid:(\d+),pid:(\d+)\] (\w+) \((.*)\): (.+) "
                  r"<(\d+\.\d{6})>$")


class AccessLogReader:
    """A process that reads .accesslog into a file, as `cat` does."""

    def __init__(self, test, mount):
        self.output = test.root / f"accesslog-{test.counter}"
        with open(self.output, "wb") as output:
            self.process = test.start_process("cat", ["cat", str(mount.path / ".accesslog")], stdout=output)
        self.test = test
        # It has the file open once its operations appear.
        def appears():
            os.stat(mount.path)
            os.listdir(mount.path)
            return bool(self.lines())
        wait_until(appears, START_TIMEOUT_S, "the access log shows something")

    def lines(self):
        return [LINE.match(line).groups() for line in self.output.read_text().splitlines() if not line.startswith("#")]

    def wait_for(self, matches, what):
        wait_until(lambda: any(matches(*line) for line in self.lines()), START_TIMEOUT_S, what)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(10)
        self.test.forget(self.process)
        self.test.assertEqual(status, -signal.SIGINT)


class MountFilesTest(SystemTest):
    def start(self, **options):
        (self.source / "file").write_bytes(b"x" * 5000)
        (self.source / "secret").write_bytes(b"x")
        self.start_daemon()
        return self.mount(attr_timeout=0, **options)

    def test_they_are_there_and_not_listed(self):
        mount = self.start()
        self.assertEqual(sorted(os.listdir(mount.path)), ["file", "secret"])
        for name, mode in ((".stats", 0o444), (".config", 0o400), (".accesslog", 0o400)):
            attributes = os.stat(mount.path / name)
            self.assertEqual(attributes.st_mode, stat.S_IFREG | mode, name)
            self.assertEqual(attributes.st_uid, 0)
            self.assert_errno(errno.EROFS, os.open, mount.path / name, os.O_WRONLY)
        self.assertEqual(self.as_user(NOBODY, NOBODY, lambda: open(mount.path / ".stats").close()), 0)
        for name in (".config", ".accesslog"):
            self.assertEqual(self.as_user(NOBODY, NOBODY, lambda: open(mount.path / name).close()), errno.EACCES, name)

    def test_config_is_json_of_what_the_mount_was_started_with(self):
        mount = self.start(threads=3, daemon_timeout=7)
        config = json.loads((mount.path / ".config").read_text())
        self.assertEqual(config["volume"], "data")
        self.assertEqual(config["socket"], str(self.daemon.socket))
        self.assertEqual(config["threads"], 3)
        self.assertEqual(config["daemon_timeout_s"], 7)
        self.assertEqual(config["attr_timeout_s"], 0)
        self.assertEqual(config["pid"], mount.process.pid)

    def test_the_access_log_shows_each_operation_with_its_caller(self):
        mount = self.start()
        log = AccessLogReader(self, mount)
        inode = os.stat(mount.path / "file").st_ino

        def read_as_nobody():
            descriptor = os.open(mount.path / "file", os.O_RDONLY)
            os.read(descriptor, 5000)
            os.close(descriptor)

        self.assertEqual(self.as_user(NOBODY, NOBODY, read_as_nobody), 0)
        for operation in ("open", "read", "release"):
            log.wait_for(lambda uid, gid, pid, name, arguments, outcome, seconds: name == operation
                         and arguments.split(",")[0] == str(inode) and outcome == "OK", f"{operation} of the file")
        # A release is the kernel's, and comes without its caller.
        log.wait_for(lambda uid, gid, pid, name, arguments, outcome, seconds: name == "read"
                     and (uid, gid) == (str(NOBODY), str(NOBODY)) and int(pid) > 0, "the reader's ids")
        self.assertFalse(os.path.exists(mount.path / "absent"))
        log.wait_for(lambda uid, gid, pid, name, arguments, outcome, seconds: name == "lookup"
                     and arguments.endswith(",absent") and int(pid) == os.getpid(), "a name that is not there")
        self.assertTrue(all(float(line[-1]) < 10 for line in log.lines()))
        log.interrupt()

    def test_a_reader_of_the_access_log_waits_and_can_be_interrupted(self):
        mount = self.start()
        log = AccessLogReader(self, mount)
        wait_until(lambda: thread_states(log.process.pid) == ["S"], 10, "it waits asleep")
        log.interrupt()
        # Nothing is held by it any more.
        os.listdir(mount.path)
        mount.unmount()

    def test_many_readers_see_the_same_and_too_many_are_refused(self):
        mount = self.start()
        descriptors = []
        self.addCleanup(lambda: [os.close(descriptor) for descriptor in descriptors])
        for _ in range(16):
            descriptors.append(os.open(mount.path / ".accesslog", os.O_RDONLY))
        self.assert_errno(errno.EMFILE, os.open, mount.path / ".accesslog", os.O_RDONLY)
        os.stat(mount.path / "file")
        first, *others = [self.lines_until(descriptor, b",file): OK") for descriptor in descriptors]
        for lines in others:
            self.assertEqual(lines, first[-len(lines):], "who came later saw other lines")

    @staticmethod
    def lines_until(descriptor, wanted):
        """The lines of the access log up to the first one with `wanted` in it; more may come behind that at any time."""
        text = b""
        while wanted not in text or not text.endswith(b"\n"):
            text += os.read(descriptor, 1 << 16)
        lines = text.splitlines()
        last = next(number for number, line in enumerate(lines) if wanted in line)
        return lines[:last + 1]

    def test_a_mount_that_is_told_to_end_ends_the_access_log(self):
        mount = self.start()
        log = AccessLogReader(self, mount)
        mount.process.terminate()
        self.assertEqual(mount.process.wait(START_TIMEOUT_S), 0)
        self.forget(mount.process)
        log.process.wait(START_TIMEOUT_S)
        self.forget(log.process)

    def test_a_slow_reader_loses_lines_and_is_told(self):
        mount = self.start()
        descriptor = os.open(mount.path / ".accesslog", os.O_RDONLY)
        name = "n" * 250
        for _ in range(5000):
            self.assertFalse(os.path.exists(mount.path / name))
        text = os.read(descriptor, 1 << 17)
        while b"lines were lost" not in text:
            os.path.exists(mount.path / name)
            text = os.read(descriptor, 1 << 20)
        os.close(descriptor)
        dropped = [line for line in (mount.path / ".stats").read_text().splitlines()
                   if line.startswith("cached_mount_access_log_dropped_total")]
        self.assertGreater(int(dropped[0].split()[-1]), 0)


if __name__ == "__main__":
    unittest.main()
