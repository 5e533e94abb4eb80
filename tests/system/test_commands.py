"""The commands: refused configurations, mounts that cannot be made, clean ends, what cachedctl shows, idleness."""

import json
import os
import signal
import subprocess
import time

from harness import STOP_TIMEOUT_S, SystemTest, cpu_ticks, mounts_below, process_is_gone, wait_until

EXIT_BAD_CONFIGURATION = 2


class CommandTest(SystemTest):
    # -- bad configurations -----------------------------------------------------------------------------------------

    def assert_refused(self, text, marked, key=None):
        """The file is refused with one line that names it, the line that holds `marked`, and the key."""
        config = self.root / "bad.toml"
        config.write_text(text)
        number = next(i for i, line in enumerate(text.splitlines(), 1) if marked in line)
        lines = []
        for flags in (["--foreground"], ["--check-config"]):
            status, line = self.run_to_failure([self.program("cached"), "--config", str(config), *flags])
            self.assertEqual(status, EXIT_BAD_CONFIGURATION, line)
            lines.append(line)
        self.assertEqual(*lines)
        self.assertIn(f"{config}:{number}", lines[0].replace(" line ", ""))
        if key is not None:
            self.assertIn(key, lines[0])
        self.assertFalse((self.root / "cached.sock").exists(), "something was started")

    def altered(self, old, new):
        text = self.config_text()
        self.assertIn(old, text)
        return text.replace(old, new, 1)

    def test_an_unknown_key_is_refused(self):
        self.assert_refused(self.altered("shards =", "shrads ="), "shrads", "shrads")

    def test_an_unknown_section_is_refused(self):
        self.assert_refused(self.config_text() + "[disk]\nx = 1\n", "[disk]", "disk")

    def test_a_wrong_type_is_refused(self):
        self.assert_refused(self.altered("shards = 1", 'shards = "one"'), "shards", "shards")
        self.assert_refused(self.altered('group = ""', "group = 3"), "group", "group")
        self.assert_refused(self.altered("settle_ms = 2000", "settle_ms = 2.5"), "settle_ms", "settle_ms")

    def test_an_impossible_size_is_refused(self):
        for size in ('"900TiB"', '"1KiB"', '"-1"', '"lots"', '""'):
            with self.subTest(size=size):
                self.assert_refused(self.altered(f'size = "{self.memory}"', f"size = {size}"), "size", "size")

    def test_a_value_out_of_range_is_refused(self):
        self.assert_refused(self.altered("shards = 1", "shards = 1000"), "shards", "shards")
        self.assert_refused(self.altered("settle_ms = 2000", "settle_ms = -1"), "settle_ms", "settle_ms")

    def test_a_source_that_is_not_there_is_refused(self):
        self.assert_refused(self.altered(f"dir:{self.source}", f"dir:{self.source}/absent"), "source", "source")

    def test_a_source_that_is_no_directory_is_refused(self):
        (self.root / "plain").touch()
        self.assert_refused(self.altered(f"dir:{self.source}", f"dir:{self.root}/plain"), "source", "source")

    def test_a_source_of_an_unknown_kind_is_refused(self):
        self.assert_refused(self.altered("dir:", "tape:"), "source", "source")

    def test_a_source_on_one_of_our_mounts_is_refused(self):
        (self.source / "sub").mkdir()
        self.start_daemon(name="first")
        mount = self.mount()
        for source in (mount.path, mount.path / "sub"):
            self.assert_refused(self.altered(f"dir:{self.source}", f"dir:{source}"), "source", "source")

    def test_two_volumes_of_one_name_are_refused(self):
        volume = f'[[volume]]\nname = "data" # again\nsource = "dir:{self.source}"\n'
        self.assert_refused(self.config_text() + volume, "# again", "name")

    def test_a_volume_without_source_is_refused(self):
        self.assert_refused(self.config_text() + '[[volume]] # second\nname = "b"\n', "# second", "source")

    def test_broken_syntax_is_refused(self):
        self.assert_refused(self.altered("shards = 1", "shards = = 1"), "shards")

    def test_a_configuration_that_is_not_there_is_refused(self):
        for flags in (["--foreground"], ["--check-config"]):
            status, line = self.run_to_failure(
                [self.program("cached"), "--config", str(self.root / "none.toml"), *flags])
            self.assertEqual(status, EXIT_BAD_CONFIGURATION)
            self.assertIn("none.toml", line)

    def test_a_good_configuration_is_accepted_and_starts_nothing(self):
        config = self.root / "good.toml"
        config.write_text(self.config_text())
        done = subprocess.run([self.program("cached"), "--config", str(config), "--check-config"], capture_output=True,
                              text=True, timeout=STOP_TIMEOUT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse((self.root / "cached.sock").exists())

    # -- mounts that cannot be made ---------------------------------------------------------------------------------

    def assert_no_mount(self, path, names, volume="data", **options):
        """The mount fails with one line that holds all of `names`, in the foreground and in the background."""
        before = mounts_below(self.root)
        for flags in ([], ["-f"]):
            status, line = self.run_to_failure(self.mount_command(volume, path, *flags, **options))
            self.assertGreater(status, 0)
            for name in names:
                self.assertIn(str(name), line)
            self.assertEqual(mounts_below(self.root), before, "a half mount is left")

    def new_mount_point(self):
        path = self.root / "point"
        path.mkdir()
        return path

    def test_an_unknown_volume_cannot_be_mounted(self):
        self.start_daemon()
        self.assert_no_mount(self.new_mount_point(), ["nosuch"], volume="nosuch")

    def test_a_missing_mount_point_is_refused(self):
        self.start_daemon()
        self.assert_no_mount(self.root / "absent", [self.root / "absent"])

    def test_a_mount_point_that_is_a_file_is_refused(self):
        self.start_daemon()
        (self.root / "plain").touch()
        self.assert_no_mount(self.root / "plain", [self.root / "plain"])

    def test_a_busy_mount_point_is_refused(self):
        self.start_daemon()
        mount = self.mount()
        self.assert_no_mount(mount.path, [mount.path])
        self.assertTrue(mount.is_mounted())

    def test_without_a_daemon_nothing_is_mounted(self):
        self.start_daemon()
        self.daemon.terminate()
        self.assert_no_mount(self.new_mount_point(), [self.daemon.socket], daemon_timeout=3)

    def test_a_socket_that_nobody_listens_on_is_no_daemon(self):
        self.start_daemon()
        self.daemon.kill()
        self.assert_no_mount(self.new_mount_point(), [self.daemon.socket], daemon_timeout=3)
        self.daemon.start()  # takes the dead daemon's sockets over

    def test_unknown_options_are_refused(self):
        self.start_daemon()
        self.assert_no_mount(self.new_mount_point(), ["frobnicate"], frobnicate=1)
        self.assert_no_mount(self.root / "point", ["attr_timeout"], attr_timeout="soon")

    # -- clean ends -------------------------------------------------------------------------------------------------

    def test_umount_ends_the_mount(self):
        mount = self.start_with_tree(small=5, large=0)
        self.verify_read(mount, passes=1)
        mount.unmount()
        self.assertEqual(mounts_below(self.root), [])
        wait_until(lambda: not self.sessions(), 1, "the session is gone")

    def test_sigterm_ends_the_mount(self):
        mount = self.start_with_tree(small=5, large=0)
        self.verify_read(mount, passes=1)
        mount.process.terminate()
        self.assertEqual(mount.process.wait(STOP_TIMEOUT_S), 0)
        self.forget(mount.process)
        self.assertEqual(mounts_below(self.root), [])

    def test_umount_works_while_the_daemon_is_dead(self):
        mount = self.start_with_tree(small=5, large=0)
        self.daemon.kill()
        begin = time.monotonic()
        mount.unmount()
        self.assertLess(time.monotonic() - begin, 5)
        self.daemon.start()

    def test_a_mount_in_the_background_returns_when_it_works(self):
        self.make_tree(small=5, large=0)
        self.start_daemon()
        path = self.new_mount_point()
        done = subprocess.run(self.mount_command("data", path), capture_output=True, text=True, timeout=STOP_TIMEOUT_S,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue((path / "d000").is_dir())
        session = self.sessions()[0]
        subprocess.run(["umount", str(path)], check=True, timeout=STOP_TIMEOUT_S)
        wait_until(lambda: process_is_gone(session["pid"]), STOP_TIMEOUT_S, "the background process is gone")

    def test_many_mounts_come_and_go(self):
        self.make_tree(small=5, large=0)
        self.start_daemon()
        before = len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))
        for _ in range(3):
            mounts = [self.mount() for _ in range(4)]
            self.verify_read(*mounts, passes=1)
            for mount in mounts:
                mount.unmount()
        wait_until(lambda: not self.sessions(), 1, "the sessions are gone")
        # Cached source files may stay open; sessions' descriptors may not.
        self.assertLess(len(os.listdir(f"/proc/{self.daemon.process.pid}/fd")), before + 20)

    # -- what an operator sees --------------------------------------------------------------------------------------

    def test_sessions_lists_mounts_and_forgets_the_dead(self):
        self.make_tree(small=5, large=0)
        self.start_daemon()
        first, second = self.mount(), self.mount()
        self.assertEqual({session["pid"] for session in self.sessions()}, {first.process.pid, second.process.pid})
        for session in self.sessions():
            self.assertEqual(session["volume"], "data")
            self.assertEqual(session["uid"], 0)
        labels = " ".join(session["label"] for session in self.sessions())
        self.assertTrue(str(first.path) in labels and str(second.path) in labels, labels)
        table = self.daemon.control("sessions")
        self.assertEqual(table.returncode, 0)
        self.assertIn(str(first.process.pid), table.stdout)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        self.forget(first.process)
        wait_until(lambda: [session["pid"] for session in self.sessions()] == [second.process.pid], 1,
                   "the killed mount's session is gone")

    def test_status_counts_what_happened(self):
        data_bytes = self.make_tree(small=20, large=1)
        self.start_daemon(memory="128MiB")
        mount = self.mount()
        self.verify_read(mount, passes=1)
        status = self.status()
        self.assertEqual(status["daemon"]["pid"], self.daemon.process.pid)
        self.assertEqual(status["memory"]["capacity_bytes"], 128 << 20)
        self.assertEqual(status["sessions"], 1)
        self.assertEqual(status["volumes"][0]["name"], "data")
        self.assertEqual(status["origin"]["errors"], 0)
        # A mount hands its counts over now and then, and all of them at its end.
        mount.unmount()
        clients = self.status()["clients"]
        self.assertGreaterEqual(clients["hit_bytes"] + clients["miss_bytes"], data_bytes)
        text = self.daemon.control("status")
        self.assertEqual(text.returncode, 0)
        self.assertTrue(text.stdout.strip())
        volumes = self.daemon.control("volumes", "--json")
        self.assertIn("data", json.dumps(json.loads(volumes.stdout)))

    def test_cachedctl_without_a_daemon_says_so(self):
        line = self.run_to_failure([self.program("cachedctl"), "--socket", str(self.root / "none.ctl"), "status"])[1]
        self.assertIn("none.ctl", line)

    def test_nothing_asked_costs_no_cpu(self):
        self.make_tree(small=50, large=1)
        self.start_daemon(shards=2)
        mounts = [self.mount(), self.mount()]
        self.verify_read(*mounts, passes=1)
        pids = [self.daemon.process.pid, *(mount.process.pid for mount in mounts)]

        def idle():
            before = sum(map(cpu_ticks, pids))
            time.sleep(2)
            return sum(map(cpu_ticks, pids)) - before <= 1

        # Timeouts run out and background work ends; on a busy machine the arena is prepared slowly.
        wait_until(idle, 30, "daemon and mounts cost no CPU")
