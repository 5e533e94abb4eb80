"""Deaths: of the daemon, of mounts, under readers; and what goes on in between."""

import errno
import mmap
import os
import signal
import time

from harness import SystemTest, process_is_gone, read_direct, regular_files, stop_process, wait_until

# A restarted daemon is found within a second (the client's longest pause), then serves; the rest is a busy machine.
SLOWEST_READ_US = 10_000_000


class RestartTest(SystemTest):
    def kill_under_readers(self, end, times):
        """Ends the daemon again and again while verifying readers read more than its arena holds."""
        self.make_tree(small=400, large=3, large_size="32MiB")
        self.settle()
        self.start_daemon(memory="64MiB")
        mounts = [self.mount(), self.mount()]
        readers = self.start_verify("read", mounts[0].path, mounts[1].path, "--manifest", self.manifest, "--threads", 4,
                                    "--seconds", 3600, "--mode", "pread,direct,mmap,whole,random,reopen")
        for _ in range(times):
            time.sleep(1.2)
            end(self.daemon)
            time.sleep(0.3)
            self.daemon.start()
        time.sleep(1)
        readers.send_signal(signal.SIGTERM)  # the regular end: it reports what it saw
        report = self.finish_verify(readers)
        self.assertEqual(report["errors"], 0)
        self.assertEqual(report["tolerated"], {})
        self.assertGreater(report["reads"], 1000)
        for mode, latency in report["latency"].items():
            self.assertLess(latency["max_us"], SLOWEST_READ_US, mode)
        # They attached again: the new daemon sees their reads.
        self.assertEqual(len(self.sessions()), 2)
        self.assertGreater(self.status()["clients"]["reads"], 0)

    def test_readers_survive_kill_9(self):
        self.kill_under_readers(lambda daemon: daemon.kill(), 6)

    def test_readers_survive_sigterm(self):
        self.kill_under_readers(lambda daemon: daemon.terminate(), 5)

    def end_for_good(self):
        """Kills the daemon; the sockets that it could not remove are the test's to remove."""
        self.daemon.kill()
        for path in (self.daemon.socket, self.daemon.control_socket):
            self.addCleanup(path.unlink, missing_ok=True)

    def test_hits_go_on_while_the_daemon_is_dead(self):
        self.make_tree()
        self.settle()
        self.start_daemon()
        mount = self.mount()
        expected = {path: read_direct(path) for path in regular_files(mount.path)}
        self.end_for_good()
        # Longer than the attribute timeout: what was known last counts while the daemon is away.
        time.sleep(1.5)
        begin = time.monotonic()
        for path, content in expected.items():
            self.assertEqual(read_direct(path), content)
            self.assertGreater(os.stat(path).st_size, 0)
        self.assertLess(time.monotonic() - begin, 5)

    def test_a_miss_waits_for_the_daemon_and_gets_its_data(self):
        self.make_tree(small=2, large=0)
        self.start_daemon()
        mount = self.mount(daemon_timeout=30)
        paths = sorted(regular_files(mount.path))
        self.daemon.kill()
        reader = self.start_verify("read", mount.path, "--manifest", self.manifest, "--passes", 1)
        time.sleep(1.5)
        self.assertIsNone(reader.poll(), "the reader did not wait")
        self.daemon.start()
        self.finish_verify(reader)
        self.assertEqual(len(paths), 2)

    def test_a_miss_gets_eio_when_the_daemon_stays_away(self):
        self.make_tree(small=3, large=0)
        self.start_daemon()
        mount = self.mount(daemon_timeout=3)
        path = sorted(regular_files(mount.path))[0]
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.addCleanup(os.close, direct)
        buffered = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, buffered)
        self.end_for_good()
        with mmap.mmap(-1, 4096) as buffer:
            # Of a read through the page cache the kernel makes two, first to read ahead, then without: one wait all the same.
            for call in (lambda: os.preadv(direct, [buffer], 0), lambda: os.pread(buffered, 4096, 0),
                         lambda: os.stat(mount.path / "never-asked-for")):
                time.sleep(0.2)  # longer than a wait in vain spares the next one
                begin = time.monotonic()
                self.assert_errno(errno.EIO, call)
                elapsed = time.monotonic() - begin
                self.assertGreater(elapsed, 2.5)
                self.assertLess(elapsed, 5)
        # And the mount recovers.
        self.daemon.start()
        self.verify_read(mount, passes=1)

    def test_a_stopped_daemon_is_noticed_by_the_deadline(self):
        self.make_tree(small=3, large=0)
        self.start_daemon()
        mount = self.mount(daemon_timeout=2)
        path = sorted(regular_files(mount.path))[0]
        stop_process(self.daemon.process.pid)
        try:
            begin = time.monotonic()
            self.assert_errno(errno.EIO, read_direct, path)
            self.assertLess(time.monotonic() - begin, 5)
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)
        wait_until(lambda: self.reads_right(mount), 5, "the mount reads again")

    def reads_right(self, mount):
        try:
            return all(read_direct(path) for path in regular_files(mount.path))
        except OSError:
            return False

    def test_a_mount_that_is_killed_is_forgotten_and_disturbs_nobody(self):
        self.make_tree(small=200, large=2)
        self.start_daemon(memory="64MiB")
        victim, other = self.mount(), self.mount()
        doomed = self.start_verify("read", victim.path, "--manifest", self.manifest, "--threads", 4, "--seconds", 3600,
                                   "--mode", "direct,whole", "--max-errors", 1)
        time.sleep(1)
        pid = victim.process.pid
        victim.process.kill()
        victim.process.wait()
        self.forget(victim.process)
        wait_until(lambda: pid not in [session["pid"] for session in self.sessions()], 1, "the session is gone")
        self.assertEqual(doomed.wait(20), 1, "its readers get errors")
        self.forget(doomed)
        doomed.report.close()
        self.assertEqual(self.status()["memory"]["pinned"], 0)
        self.verify_read(other, threads=2, passes=2)

    def test_a_daemon_that_ends_removes_its_sockets_and_processes(self):
        self.start_daemon()
        pid = self.daemon.process.pid
        self.daemon.terminate()
        self.assertTrue(process_is_gone(pid))
        self.assertFalse(self.daemon.socket.exists())
        self.assertFalse(self.daemon.control_socket.exists())

    def test_a_second_daemon_on_the_socket_refuses_and_does_not_disturb(self):
        mount = self.start_with_tree(small=20, large=0)
        other = self.root / "second.toml"
        other.write_text(self.daemon.config.read_text())
        status, line = self.run_to_failure([self.program("cached"), "--config", str(other), "--foreground"])
        self.assertEqual(status, 1)
        self.assertIn(str(self.daemon.socket), line)
        self.assertTrue(self.daemon.running())
        self.verify_read(mount, passes=1)
        self.verify_read(self.mount(), passes=1)

    def test_a_descriptor_stays_good_over_a_restart(self):
        self.make_tree(small=0, large=1)
        expected = (self.source / "large/l000").read_bytes()
        self.settle()
        self.start_daemon()
        mount = self.mount()
        with open(mount.path / "large/l000", "rb", buffering=0) as file:
            self.assertEqual(file.read(1 << 20), expected[:1 << 20])
            self.daemon.kill()
            self.daemon.start()
            rest = b""
            while chunk := file.read(1 << 20):
                rest += chunk
        self.assertEqual(rest, expected[1 << 20:])
