"""Sources that change: new bytes within the attribute timeout, never two versions in one read, never zeros."""

import errno
import os
import re
import time

from harness import NOBODY, SystemTest, read_direct, wait_until

# What a busy machine of two cores adds to the attribute timeout before a program sees the change.
SLACK_S = 0.25
AT_REST_S = 3.5  # after which a directory counts as one that is not changing


class ChangeTest(SystemTest):
    def run_changes(self, kinds, mode="pread,direct,mmap,whole,random,reopen", attr_timeout=0.3, seconds=8, mounts=2,
                    **tree):
        """Readers on several mounts while files change at the source; every read is judged."""
        self.make_tree(**({"small": 60, "small_min": "4K", "small_max": "400K", "large": 0, "dirs": 4} | tree))
        self.start_daemon()
        mounted = [self.mount(attr_timeout=attr_timeout) for _ in range(mounts)]
        report = self.verify("run", self.source, *(mount.path for mount in mounted), "--manifest", self.manifest,
                             "--threads", 4, "--seconds", seconds, "--changers", 2, "--change-interval-ms", 10,
                             "--changes", kinds, "--mode", mode, "--allow-short",
                             "--staleness-ms", int((attr_timeout + SLACK_S) * 1000))
        self.assertEqual(report["errors"], 0)
        self.assertGreater(sum(report["changes"].values()), 50)
        # When all has been quiet for the timeout, every mount shows the last state.
        time.sleep(attr_timeout + SLACK_S)
        self.verify_read(*mounted, threads=2, passes=1)
        return report

    def listings_asked_for(self, mount):
        text = (mount.path / ".stats").read_text()
        return sum(int(line.split()[-1]) for line in text.splitlines() if re.search(r'"readdir(plus)?"', line))

    def test_a_listing_is_kept_until_its_directory_changes(self):
        folder = self.source / "folder"
        folder.mkdir()
        (folder / "a").write_bytes(b"a")
        time.sleep(AT_REST_S)
        self.start_daemon()
        mount = self.mount(attr_timeout=0.5)
        shown = mount.path / "folder"
        self.assertEqual(os.listdir(shown), ["a"])
        asked = self.listings_asked_for(mount)
        for _ in range(5):
            self.assertEqual(os.listdir(shown), ["a"])
            time.sleep(0.2)  # past the attribute timeout
        self.assertEqual(self.listings_asked_for(mount), asked)
        before = folder.stat()
        (folder / "b").write_bytes(b"b")
        os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))  # as rsync does it
        wait_until(lambda: sorted(os.listdir(shown)) == ["a", "b"], 0.5 + 2, "the new name is listed")
        self.assertGreater(self.listings_asked_for(mount), asked)

    def test_files_overwritten_in_place_are_never_mixed(self):
        self.run_changes("inplace", mode="direct,whole,random,reopen")

    def test_files_overwritten_in_place_under_the_page_cache(self):
        self.run_changes("inplace", mode="pread,mmap,whole,random,reopen")

    def test_files_replaced_by_rename(self):
        report = self.run_changes("rename")
        self.assertEqual(report["torn_reads"], 0)

    def test_files_truncated_and_grown(self):
        self.run_changes("truncate,grow")

    def test_files_rewritten_as_cp_does_it(self):
        self.run_changes("rewrite")

    def test_files_that_shrink_and_grow_show_no_zeros(self):
        # Few files and small reads: many of them meet a size that the kernel knows and the source has no longer.
        self.run_changes("truncate,grow,rewrite", mode="pread,random,reopen", seconds=15, small=16, dirs=2)

    def test_files_removed_and_made_anew(self):
        report = self.run_changes("remove")
        self.assertGreater(report["tolerated"].get("ENOENT", 0), 0)

    def test_changes_of_every_kind_are_never_mixed_and_seen_in_time(self):
        self.run_changes("inplace,rename,truncate,grow,rewrite,remove", large=1, large_size="3MiB")

    def test_changes_without_any_caching_of_attributes(self):
        self.run_changes("inplace,rename,truncate,grow,remove", attr_timeout=0)

    def test_changes_are_judged_while_the_arena_evicts(self):
        self.memory = "64MiB"
        self.run_changes("inplace,rename", large=3, large_size="40MiB")

    def test_files_made_just_now_and_never_changed_read_without_error(self):
        self.start_daemon()
        mount = self.mount(attr_timeout=0.2)
        self.make_tree(small=4, large=1, large_size="2MiB")
        self.verify_read(mount, seconds=3, threads=4, mode="pread,direct,mmap,whole,random,reopen")

    # -- single changes, timed --------------------------------------------------------------------------------------

    def start(self, attr_timeout=1.0, settle_ms=2000):
        self.start_daemon(settle_ms=settle_ms)
        return self.mount(attr_timeout=attr_timeout)

    def assert_seen_within(self, condition, timeout_s):
        wait_until(condition, timeout_s + SLACK_S, "the change is seen within the attribute timeout")

    def test_a_change_is_seen_within_the_attribute_timeout(self):
        path = self.source / "file"
        path.write_bytes(b"a" * 100_000)
        mount = self.start(attr_timeout=1.0)
        self.assertEqual((mount.path / "file").read_bytes(), b"a" * 100_000)
        for content in (b"b" * 100_000, b"c" * 100_000, b"d" * 50_000, b"e" * 200_000):
            with open(path, "r+b") as file:
                file.write(content)
                file.truncate()
            self.assert_seen_within(lambda: (mount.path / "file").read_bytes() == content, 1.0)

    def test_a_change_of_a_settled_file_is_seen(self):
        path = self.source / "file"
        path.write_bytes(b"a" * 300_000)
        mount = self.start(attr_timeout=0.2, settle_ms=300)
        time.sleep(0.6)
        for content in (b"b" * 300_000, b"c" * 300_000):
            self.assertEqual(len(set((mount.path / "file").read_bytes())), 1)
            time.sleep(0.6)
            path.write_bytes(content)
            self.assert_seen_within(lambda: (mount.path / "file").read_bytes() == content, 0.2)
            self.assert_seen_within(lambda: read_direct(mount.path / "file") == content, 0.2)

    def test_a_change_that_restores_size_and_mtime_is_seen(self):
        path = self.source / "file"
        path.write_bytes(b"a" * 5000)
        times = (1_500_000_000_000_000_000, 1_500_000_000_000_000_000)
        os.utime(path, ns=times)
        mount = self.start(attr_timeout=0.2)
        self.assertEqual((mount.path / "file").read_bytes(), b"a" * 5000)
        path.write_bytes(b"b" * 5000)
        os.utime(path, ns=times)
        self.assert_seen_within(lambda: (mount.path / "file").read_bytes() == b"b" * 5000, 0.2)

    def test_a_descriptor_that_stays_open_sees_new_bytes(self):
        path = self.source / "file"
        path.write_bytes(b"a" * 100_000)
        mount = self.start(attr_timeout=0.2)
        descriptor = os.open(mount.path / "file", os.O_RDONLY)
        try:
            self.assertEqual(os.pread(descriptor, 100_000, 0), b"a" * 100_000)
            with open(path, "r+b") as file:
                file.write(b"b" * 100_000)
            self.assert_seen_within(lambda: os.pread(descriptor, 100_000, 0) == b"b" * 100_000, 0.2)
        finally:
            os.close(descriptor)

    def test_attributes_and_directories_change_within_the_timeout(self):
        (self.source / "dir").mkdir()
        path = self.source / "dir/file"
        path.write_bytes(b"x")
        mount = self.start(attr_timeout=0.5)
        seen = mount.path / "dir/file"
        self.assertEqual(os.listdir(mount.path / "dir"), ["file"])
        path.chmod(0o600)
        self.assert_seen_within(lambda: seen.stat().st_mode & 0o777 == 0o600, 0.5)
        (self.source / "dir/second").touch()
        self.assert_seen_within(lambda: sorted(os.listdir(mount.path / "dir")) == ["file", "second"], 0.5)
        path.unlink()
        self.assert_seen_within(lambda: not seen.exists(), 0.5)
        os.rename(self.source / "dir", self.source / "moved")
        self.assert_seen_within(lambda: os.listdir(mount.path) == ["moved"], 0.5)
        self.assert_seen_within(lambda: (mount.path / "moved/second").exists(), 0.5)

    def test_a_file_replaced_by_a_directory(self):
        path = self.source / "name"
        path.write_bytes(b"a" * 10_000)
        mount = self.start(attr_timeout=0.3)
        descriptor = os.open(mount.path / "name", os.O_RDONLY)
        try:
            self.assertEqual(os.pread(descriptor, 5, 0), b"aaaaa")
            path.unlink()
            path.mkdir()
            (path / "inner").write_bytes(b"inner")
            self.assert_seen_within(lambda: (mount.path / "name").is_dir(), 0.3)
            self.assertEqual((mount.path / "name/inner").read_bytes(), b"inner")
            # The descriptor's inode is gone at the source: its own bytes, or the errno that says so.
            try:
                self.assertEqual(os.pread(descriptor, 10_000, 0), b"a" * 10_000)
            except OSError as error:
                self.assertIn(error.errno, (errno.ESTALE, errno.ENOENT))
        finally:
            os.close(descriptor)

    def test_a_directory_replaced_by_a_file(self):
        (self.source / "name").mkdir()
        (self.source / "name/inner").write_bytes(b"inner")
        mount = self.start(attr_timeout=0.3)
        self.assertEqual((mount.path / "name/inner").read_bytes(), b"inner")
        (self.source / "name/inner").unlink()
        (self.source / "name").rmdir()
        (self.source / "name").write_bytes(b"file now")
        self.assert_seen_within(lambda: (mount.path / "name").is_file(), 0.3)
        self.assertEqual((mount.path / "name").read_bytes(), b"file now")

    def test_a_symlink_that_is_redirected(self):
        for name in ("one", "two"):
            (self.source / name).write_text(name)
        os.symlink("one", self.source / "link")
        mount = self.start(attr_timeout=0.3)
        self.assertEqual((mount.path / "link").read_text(), "one")
        (self.source / "link").unlink()
        os.symlink("two", self.source / "link")
        self.assert_seen_within(lambda: (mount.path / "link").read_text() == "two", 0.3)

    def test_a_file_that_becomes_unreadable_gives_the_sources_errno(self):
        # Root reads everything, so this daemon is somebody else.
        path = self.source / "file"
        path.write_bytes(b"a" * 100_000)
        other = self.source / "other"
        other.write_bytes(b"b" * 100_000)
        self.root.chmod(0o777)  # the daemon makes its sockets and its state here
        self.start_daemon(uid=NOBODY)
        mount = self.mount(attr_timeout=0.2)
        self.assertEqual((mount.path / "file").read_bytes(), b"a" * 100_000)
        other.chmod(0o600)
        time.sleep(0.5)
        self.assert_errno(errno.EACCES, lambda: (mount.path / "other").read_bytes())
        other.chmod(0o644)
        self.assert_seen_within(lambda: self.reads(mount.path / "other", b"b" * 100_000), 0.2)

    def reads(self, path, content):
        try:
            return path.read_bytes() == content
        except OSError:
            return False
