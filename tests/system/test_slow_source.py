"""Sources that are slow or do not answer: only those who need them wait, and those to a deadline."""

import errno
import os
import subprocess
import threading
import time

from harness import SystemTest, read_direct, regular_files, thread_states, wait_until


class SlowSourceTest(SystemTest):
    def setUp(self):
        super().setUp()
        self.control = self.root / "control"
        self.slow = self.root / "slow"
        self.slow.mkdir()
        self.order("go")
        self.slowfs = None
        # Before anything is ended: what hangs must be let go.
        self.addCleanup(self.end_slowfs)

    def order(self, text):
        """"go", "delay N" (ms) or "hang"."""
        fresh = self.control.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.control)

    def start_slowfs(self):
        self.make_tree(small=60, large=1)
        self.slowfs = self.start_process("slowfs", [self.program("cached-slowfs"), str(self.source), str(self.slow),
                                                    str(self.control)])
        wait_until(lambda: os.path.ismount(self.slow), 30, "the slow file system is mounted")

    def end_slowfs(self):
        self.order("go")
        for mount in self.mounts:
            subprocess.run(["umount", str(mount.path)], check=False, capture_output=True, timeout=60)
            mount.process.wait(30)
        if self.daemon is not None and self.daemon.running():
            self.daemon.terminate()
        if self.slowfs is not None:
            subprocess.run(["umount", str(self.slow)], check=False, timeout=60)
            self.slowfs.wait(30)
            self.forget(self.slowfs)

    def start_both(self):
        """A daemon with the volumes `slow` (the slow file system) and `fast` (the directory behind it)."""
        self.start_slowfs()
        self.start_daemon(volumes={"slow": self.slow, "fast": self.source})

    def first_file(self, mount, place=0):
        return sorted(regular_files(mount.path))[place]

    def test_a_source_that_is_slow_is_read_right(self):
        self.start_both()
        mount = self.mount("slow")
        self.order("delay 10")
        self.verify_read(mount, passes=1, mode="whole")

    def test_a_source_that_hangs_delays_nobody_elses_volume(self):
        self.start_both()
        slow, fast = self.mount("slow", daemon_timeout=20), self.mount("fast")
        self.order("hang")
        waiting = [threading.Thread(target=self.swallow, args=(slow, place)) for place in range(12)]
        for thread in waiting:
            thread.start()
        begin = time.monotonic()
        self.verify_read(fast, passes=1)
        took = time.monotonic() - begin
        self.assertTrue(any(thread.is_alive() for thread in waiting), "nobody waited for the source that hangs")
        self.order("go")
        for thread in waiting:
            thread.join(60)
        self.assertLess(took, 15, "the other volume's reads waited")
        self.verify_read(slow, passes=1)

    def swallow(self, mount, place):
        names = sorted(os.listdir(self.source))
        try:
            os.stat(mount.path / names[place % len(names)])
        except OSError:
            pass

    def test_a_read_that_needs_a_source_that_hangs_ends_at_its_deadline(self):
        self.start_both()
        mount = self.mount("slow", daemon_timeout=2, attr_timeout=600)
        cached_path, other_path, uncached_path = (self.first_file(mount, place) for place in range(3))
        known = read_direct(cached_path)
        os.stat(other_path)
        self.order("hang")
        self.assertEqual(read_direct(cached_path), known, "what is cached waited for the source")
        begin = time.monotonic()
        self.assert_errno(errno.EIO, read_direct, other_path)
        self.assertLess(time.monotonic() - begin, 12)
        self.order("go")
        wait_until(lambda: self.reads(other_path), 30, "the file is read when the source answers again")
        # A request that still waits makes the mount attach again when its time is over. That ends within daemon_timeout; and
        # what came late is a hit, which tells nothing of the daemon.
        time.sleep(2.5)
        wait_until(lambda: self.reads(uncached_path), 30, "a file that nobody has read yet is read")
        self.verify_read(mount, passes=1)

    def reads(self, path):
        try:
            return len(read_direct(path)) >= 0
        except OSError:
            return False

    def test_a_mount_of_a_source_that_hangs_is_refused_in_time_and_others_are_served(self):
        self.start_both()
        self.order("hang")
        point = self.root / "refused"
        point.mkdir()
        begin = time.monotonic()
        _, line = self.run_to_failure(self.mount_command("slow", point, "-f"), timeout_s=60)
        self.assertLess(time.monotonic() - begin, 30)
        self.assertIn("does not answer", line)
        self.verify_read(self.mount("fast"), passes=1)

    def test_the_daemon_starts_beside_a_source_that_hangs_and_serves_it_when_it_answers(self):
        self.start_slowfs()
        self.order("hang")
        self.start_daemon(volumes={"slow": self.slow, "fast": self.source})
        self.verify_read(self.mount("fast"), passes=1)
        self.order("go")
        wait_until(lambda: self.mounts_right("slow"), 60, "the volume can be mounted")

    def mounts_right(self, volume):
        try:
            mount = self.mount(volume)
        except AssertionError:
            self.forget(self.mounts.pop().process) if self.mounts else None
            return False
        self.verify_read(mount, passes=1)
        return True

    def test_the_daemon_ends_in_time_although_its_source_hangs(self):
        self.start_both()
        mount = self.mount("slow", daemon_timeout=2)
        self.order("hang")
        thread = threading.Thread(target=self.swallow, args=(mount, 0))
        thread.start()
        time.sleep(1)
        begin = time.monotonic()
        self.daemon.terminate()
        self.assertLess(time.monotonic() - begin, 15)
        self.order("go")
        thread.join(60)

    def test_a_mount_that_is_killed_while_it_waits_for_pages_to_be_dropped_ends(self):
        """The kernel waits, inside a call of the mount's, for a page whose READ nobody will answer any more."""
        name = "file"
        (self.source / name).write_bytes(os.urandom(1 << 20) * 8)
        self.settle()
        self.start_both()
        mount = self.mount("slow", attr_timeout=3, daemon_timeout=60)
        with open(mount.path / name, "rb", buffering=0) as file:
            file.read(4096)  # the kernel has pages of the file
            self.order("delay 15000")
            waiting = threading.Thread(target=self.read_at, args=(file.fileno(), 6 << 20))
            waiting.start()
            wait_until(lambda: self.status()["origin"]["in_flight"] > 0, 10, "a read waits for the source")
            time.sleep(4)  # the source has seen the order; the attributes are old
            self.order("go")
            (self.source / name).write_bytes(b"another version")
            looking = threading.Thread(target=self.look_at, args=(mount.path / name,))
            looking.start()
            wait_until(lambda: "D" in thread_states(mount.process.pid), 10, "the mount waits for the page")
            mount.process.kill()
            begin = time.monotonic()
            mount.process.wait(15)
            self.assertLess(time.monotonic() - begin, 5)
            self.forget(mount.process)
            waiting.join(10)
            looking.join(10)
            self.assertFalse(waiting.is_alive() or looking.is_alive())
        self.verify_read(self.mount("slow"), passes=1)

    def read_at(self, descriptor, offset):
        try:
            os.pread(descriptor, 4096, offset)
        except OSError:
            pass

    def look_at(self, path):
        try:
            os.stat(path)
        except OSError:
            pass
