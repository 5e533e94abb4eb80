"""Daemons and mounts that die, hang and go on at any moment, over memory that is smaller than the data and SSDs beneath it.

Dozens of kills here; a long run is `CACHED_KILLS=2000 python3 run_one.py test_kills test_daemons_that_die_or_hang...` with
CACHED_TEST_WATCHDOG_S set to suit. A seed (CACHED_SEED) replays the moments, not the machine.
"""

import os
import random
import signal
import subprocess
import threading
import time

from harness import SystemTest, read_direct, regular_files, stop_process, wait_until

KILLS = int(os.environ.get("CACHED_KILLS", "24"))
SEED = int(os.environ.get("CACHED_SEED", "1"))
ALL_MODES = "pread,direct,mmap,whole,random,reopen"
# A reader waits for the daemon to be started again, or to go on: at most the pause below and a start on a busy machine.
SLOWEST_P999_US = 15e6


class KillTest(SystemTest):
    def start_three_mounts(self):
        """An arena of 64 MiB and SSDs of 128 MiB under 170 MB of files, and ten readers on three mounts."""
        self.make_tree(small=400, large=4, large_size="32MiB")
        self.start_daemon(memory="64MiB", devices=[(self.root / "ssd0", "64MiB"), (self.root / "ssd1", "64MiB")])
        mounts = [self.mount(), self.mount(), self.mount()]
        readers = self.start_verify("read", *(mount.path for mount in mounts), "--manifest", self.manifest, "--threads", 10,
                                    "--seconds", 36000, "--mode", ALL_MODES)
        return mounts, readers

    def end_readers(self, readers):
        readers.send_signal(signal.SIGTERM)  # the regular end: it reports what it saw
        report = self.finish_verify(readers)
        self.assertEqual(report["errors"], 0)
        self.assertEqual(report["tolerated"], {})
        self.assertGreater(report["reads"], 1000)
        return report

    def test_daemons_that_die_or_hang_at_any_moment_hurt_no_reader(self):
        rng = random.Random(SEED)
        _, readers = self.start_three_mounts()
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.2, 0.2 + 4.8 * rng.random() ** 6))  # mostly soon, up to five seconds
            self.strike(rng)
            self.assertIsNone(readers.poll(), "the readers ended: they found an error")
        time.sleep(1)
        report = self.end_readers(readers)
        for mode, latency in report["latency"].items():
            print(f"{mode}: p99.9 of {latency['count']} reads {latency['p999_us'] / 1e3:.1f} ms, longest "
                  f"{latency['max_us'] / 1e3:.0f} ms")
            self.assertLess(latency["p999_us"], SLOWEST_P999_US, mode)
        wait_until(lambda: len(self.sessions()) == 3, 10, "all three mounts attached to the last daemon")
        self.wait_for_devices()

    def strike(self, rng):
        how = rng.choice(["kill", "kill", "terminate", "stop and go on", "stop and kill"])
        if how.startswith("stop"):
            stop_process(self.daemon.process.pid)
            time.sleep(rng.uniform(0.05, 1.0))
        if how == "stop and go on":
            self.daemon.process.send_signal(signal.SIGCONT)
            return
        if how == "terminate":
            self.daemon.terminate()
        else:
            self.daemon.kill()
        time.sleep(rng.uniform(0, 0.2))
        self.daemon.start()

    def test_mounts_that_are_killed_in_the_middle_of_everything_leave_nothing(self):
        rng = random.Random(SEED)
        mounts, readers = self.start_three_mounts()
        for _ in range(max(3, KILLS // 8)):
            victim = self.mount()
            doomed = self.start_verify("read", victim.path, "--manifest", self.manifest, "--threads", 4, "--seconds", 3600,
                                       "--mode", "direct,whole", "--max-errors", 1)
            time.sleep(rng.uniform(0.2, 1.0))
            pid = victim.process.pid
            victim.process.kill()
            victim.process.wait()
            self.forget(victim.process)
            wait_until(lambda pid=pid: pid not in [session["pid"] for session in self.sessions()], 1,
                       "the session and all that it held are gone a second after the process")
            self.assertEqual(doomed.wait(30), 1, "its readers get errors")
            self.forget(doomed)
            doomed.report.close()
            self.take_dead_mount_over(victim)
        self.end_readers(readers)
        for mount in mounts:
            mount.unmount()
        wait_until(lambda: self.status()["memory"]["pinned"] == 0, 5, "nothing is pinned any more")

    def take_dead_mount_over(self, victim):
        """The mount point of a mount that died is mounted on again, without anybody cleaning up first."""
        command = self.mount_command("data", victim.path, "-f")
        victim.process = self.start_process("mount", command)
        wait_until(lambda: self.answers(victim.path), 30, "the mount point is served again")
        self.verify_read(victim, passes=1, mode="whole", threads=2)
        victim.unmount()
        subprocess.run(["umount", "-l", str(victim.path)], check=False, capture_output=True)

    def answers(self, path):
        try:
            return len(os.listdir(path)) > 0
        except OSError:
            return False

    def test_a_mount_that_is_stopped_inside_replies_lets_no_wrong_byte_out(self):
        self.make_tree(small=300, large=3, large_size="32MiB")
        self.start_daemon(memory="64MiB")
        stopped, other = self.mount(), self.mount()
        readers = self.start_verify("read", stopped.path, "--manifest", self.manifest, "--threads", 6, "--seconds", 3600,
                                    "--mode", "direct,whole,mmap")
        for _ in range(6):
            time.sleep(0.5)
            stop_process(stopped.process.pid)
            # The other mount turns the whole arena over while replies of the first stand still.
            self.verify_read(other, passes=1, threads=2, mode="direct")
            stopped.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        self.end_readers(readers)

    def test_a_daemon_that_hung_and_a_new_one_do_not_meet(self):
        """The old one is stopped, its sockets are taken away, a new one starts: the old goes on and must end by itself or be
        told apart; whatever it still does, no reader sees it."""
        self.make_tree(small=100, large=2, large_size="16MiB")
        self.start_daemon(memory="64MiB", devices=[(self.root / "ssd0", "64MiB")])
        mount = self.mount(daemon_timeout=30)
        self.verify_read(mount, passes=1)
        old = self.daemon.process
        stop_process(old.pid)
        waiting = threading.Thread(target=self.read_all, args=(mount,))
        waiting.start()
        status, line = self.run_to_failure([self.program("cached"), "--config", str(self.daemon.config), "--foreground"])
        self.assertEqual(status, 1)
        self.assertIn("another cached is running", line)
        old.kill()
        old.wait()
        self.forget(old)
        self.daemon.start()
        waiting.join(60)
        self.assertFalse(waiting.is_alive())
        self.wait_for_devices()
        self.verify_read(mount, passes=2)

    def read_all(self, mount):
        for path in regular_files(mount.path):
            read_direct(path)
