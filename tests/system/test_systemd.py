"""What systemd is given: units, user, folders, and the signs of life that it waits for."""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

from harness import START_TIMEOUT_S, SystemTest, libc, mounts_below, process_is_gone, wait_until

SYSTEMD = pathlib.Path(__file__).resolve().parents[2] / "systemd"
MOST_EXPOSURE = 2.0
PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000


def needs(program):
    return unittest.skipUnless(shutil.which(program), f"{program} is not installed")


class UnitFilesTest(SystemTest):

    @needs("systemd-analyze")
    def test_the_daemon_is_hardened(self):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", str(SYSTEMD / "cached.service")],
                              capture_output=True, text=True, check=False)
        exposure = re.search(r"Overall exposure level for cached.service: ([0-9.]+)", done.stdout)
        self.assertIsNotNone(exposure, done.stdout + done.stderr)
        self.assertLessEqual(float(exposure.group(1)), MOST_EXPOSURE)

    @needs("systemd-analyze")
    def test_units_have_no_mistakes(self):
        for unit in ("cached.service", "cached-mount@data.service"):
            copy = self.root / unit
            shutil.copy(SYSTEMD / unit.replace("@data", "@"), copy)
            text = copy.read_text()
            for name in ("cached-mount", "cached"):
                text = text.replace(f"/usr/bin/{name} ", f"{self.program(name)} ")
            copy.write_text(text)
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)],
                                  capture_output=True, text=True, check=False)
            about_us = [line for line in (done.stdout + done.stderr).splitlines() if unit in line]
            self.assertEqual(about_us, [])

    @needs("systemd-sysusers")
    def test_the_user_is_made(self):
        root = self.root / "image"
        (root / "etc").mkdir(parents=True)
        subprocess.run(["systemd-sysusers", f"--root={root}", str(SYSTEMD / "cached.sysusers")], check=True,
                       capture_output=True)
        self.assertRegex((root / "etc/passwd").read_text(), r"(?m)^cached:x:\d+:\d+:.*:/var/lib/cached:.*nologin$")
        self.assertRegex((root / "etc/group").read_text(), r"(?m)^cached:x:\d+:$")

    @needs("systemd-tmpfiles")
    def test_the_folders_are_made(self):
        root = self.root / "image"
        root.mkdir()
        subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", str(SYSTEMD / "cached.tmpfiles")], check=True,
                       capture_output=True)
        for folder in ("etc/cached/mounts", "mnt/cached"):
            self.assertTrue((root / folder).is_dir(), folder)


class NotifyTest(SystemTest):
    """The daemon and the mount under a service manager, which this test plays."""

    def setUp(self):
        super().setUp()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(self.root / "notify"))
        self.manager.settimeout(START_TIMEOUT_S)
        self.addCleanup(self.forget_manager)

    def forget_manager(self):
        self.manager.close()
        os.unlink(self.root / "notify")

    @contextlib.contextmanager
    def environment(self, **variables):
        os.environ.update(variables)
        try:
            yield
        finally:
            for name in variables:
                del os.environ[name]

    def next_message(self, timeout_s=START_TIMEOUT_S):
        self.manager.settimeout(timeout_s)
        try:
            return self.manager.recv(4096).decode()
        except socket.timeout:
            return None

    def messages_for(self, seconds):
        end = time.monotonic() + seconds
        messages = []
        while (rest := end - time.monotonic()) > 0:
            if (message := self.next_message(rest)) is not None:
                messages.append(message)
        return messages

    def shard_thread(self):
        tasks = pathlib.Path(f"/proc/{self.daemon.process.pid}/task")
        return next(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == "shard-0")

    def test_the_watchdog_is_fed_as_long_as_every_reactor_turns(self):
        with self.environment(NOTIFY_SOCKET=str(self.root / "notify"), WATCHDOG_USEC="600000"):
            self.start_daemon()
        self.assertIn("READY=1", self.next_message())
        self.assertGreaterEqual(self.messages_for(1.5).count("WATCHDOG=1"), 3)
        # One thread of the daemon stands still, the others go on.
        thread = self.shard_thread()
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        if libc.ptrace(PTRACE_ATTACH, thread, None, None) != 0:
            self.skipTest(f"ptrace is not allowed here: {os.strerror(ctypes.get_errno())}")
        os.waitpid(thread, WALL)
        try:
            self.messages_for(0.5)  # what was on its way
            self.assertEqual(self.messages_for(1.2), [], "a reactor that stands still is not noticed")
        finally:
            libc.ptrace(PTRACE_DETACH, thread, None, None)
        wait_until(lambda: self.next_message(0.2) == "WATCHDOG=1", START_TIMEOUT_S, "it goes on")
        self.assertIn("reactor shard-0 does not turn", self.processes[self.daemon.process].read_text())
        self.daemon.terminate()

    def test_a_mount_says_when_it_works(self):
        self.make_tree(small=5, large=0)
        self.start_daemon()
        with self.environment(NOTIFY_SOCKET=str(self.root / "notify")):
            mount = self.mount()
        self.assertEqual(self.next_message(), "READY=1")
        self.assertTrue((mount.path / "d000").is_dir())


class DyingMountTest(SystemTest):
    def start_in_background(self):
        self.make_tree(small=20, large=1, large_size="2MiB")
        self.start_daemon()
        path = self.root / "point"
        path.mkdir()
        done = subprocess.run(self.mount_command("data", path), capture_output=True, text=True,
                              timeout=START_TIMEOUT_S, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.addCleanup(self.unmount, path)
        return path

    def unmount(self, path):
        pids = [session["pid"] for session in self.sessions()]
        for _ in mounts_below(path):
            subprocess.run(["umount", str(path)], check=True, timeout=START_TIMEOUT_S)
        wait_until(lambda: all(process_is_gone(pid) for pid in pids), START_TIMEOUT_S, "the mount's process is gone")

    def attached(self):
        return [session["pid"] for session in self.sessions() if session["state"] == "attached"]

    def test_a_mount_that_dies_is_taken_away_and_comes_back(self):
        path = self.start_in_background()
        first = self.attached()[0]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: any(pid != first for pid in self.attached()), START_TIMEOUT_S, "another process serves")
        wait_until(lambda: os.path.isdir(path / "d000"), START_TIMEOUT_S, "it answers")
        self.assertEqual(mounts_below(path), [str(path)], "the dead mount is still there")

    def test_a_mount_that_was_unmounted_or_told_to_end_stays_away(self):
        path = self.start_in_background()
        pid = self.attached()[0]
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: process_is_gone(pid), START_TIMEOUT_S, "the process is gone")
        time.sleep(1.5)
        self.assertEqual((mounts_below(path), self.attached()), ([], []))

    def test_a_mount_that_dies_while_the_daemon_is_away_comes_back_with_it(self):
        path = self.start_in_background()
        pid = self.attached()[0]
        self.daemon.kill()
        os.kill(pid, signal.SIGKILL)
        time.sleep(1.5)
        self.daemon.start()
        wait_until(self.attached, START_TIMEOUT_S, "another process serves")
        wait_until(lambda: os.path.isdir(path / "d000"), START_TIMEOUT_S, "it answers")


if __name__ == "__main__":
    unittest.main()
