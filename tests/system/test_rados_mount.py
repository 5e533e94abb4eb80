"""Mounts of data sets in a real Ceph cluster: POSIX for reading, complete, cold and from each tier."""

import errno
import os
import pathlib
import socket
import stat
import subprocess

from harness import NOBODY, read_direct, wait_until
from rados_harness import RadosTest
from test_tree import describe_tree

MANY_NAMES = 100_000
TIB = 1 << 40


def private_bytes(pid):
    """Memory that is a process's own: what it shares with the cache does not count."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


class RadosMountTest(RadosTest):
    def assert_same_tree(self, mount):
        expected, seen = describe_tree(self.source), describe_tree(mount.path)
        self.assertEqual(sorted(expected), sorted(seen))
        for path, description in expected.items():
            for key, value in description.items():
                self.assertTrue(value == seen[path][key],
                                f"{path}: {key}: {value!r:.200} became {seen[path][key]!r:.200}")
            source = os.lstat(os.path.join(os.fsencode(self.source), path))
            shown = os.lstat(os.path.join(os.fsencode(mount.path), path))
            self.assertEqual(source.st_ino, shown.st_ino, path)
            if stat.S_ISREG(source.st_mode):
                self.assertEqual(source.st_blocks, shown.st_blocks, path)

    def import_and_mount(self, **options):
        self.import_tree()
        return self.start_and_mount(**options)

    def test_a_mount_shows_the_tree_that_was_imported(self):
        self.write_varied_tree()
        self.write("large", os.urandom(9_000_001))
        os.symlink("deep/er", self.source / "link")
        os.symlink("x" * 1000, self.source / "dangling")
        path = self.write("attributes")
        os.setxattr(path, "user.binary", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.large", b"l" * 2000)
        os.setxattr(self.source, "user.of-the-root", b"root")
        subprocess.run(["setfacl", "-m", "u:1234:r,g:5678:rw", path], check=True)
        subprocess.run(["setfacl", "-m", "d:u:1234:rwx", self.source / "deep"], check=True)
        os.mkfifo(self.source / "fifo", 0o640)
        os.mknod(self.source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(self.source / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 99))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.source / "socket"))
        mount = self.import_and_mount()
        self.assert_same_tree(mount)
        first, second = os.stat(mount.path / "linked"), os.stat(mount.path / "deep/second-name")
        self.assertEqual((first.st_ino, first.st_nlink), (second.st_ino, 2))
        self.assertEqual((mount.path / "link/and/deep/er/file").read_bytes(), b"x" * 5000)
        self.assert_errno(errno.ENODATA, os.getxattr, mount.path / "attributes", "user.absent")
        self.assert_errno(errno.ENOENT, os.stat, mount.path / "absent")
        self.assert_errno(errno.ENOTDIR, os.stat, mount.path / "plain/below")
        acls = [subprocess.run(["getfacl", "-nc", top / "attributes"], check=True, capture_output=True, text=True).stdout
                for top in (self.source, mount.path)]
        self.assertEqual(*acls)

    def test_names_of_any_bytes_are_shown(self):
        names = [b"n" * 255, "ü".encode() * 127, b"\xff\xfe\x80invalid-utf8", b"new\nline", b" blank ", b"-dash",
                 b"\x01\x7f", b"quote\"'\\", b"%s%n", b"\xff" * 255]
        for name in names:
            with open(os.path.join(os.fsencode(self.source), name), "wb") as file:
                file.write(name)
        mount = self.import_and_mount()
        self.assert_same_tree(mount)
        self.assertEqual(sorted(os.listdir(os.fsencode(mount.path))), sorted(names))
        self.assert_errno(errno.ENAMETOOLONG, os.stat, os.path.join(os.fsencode(mount.path), b"n" * 256))

    def test_rights_and_acls_hold_for_other_users(self):
        self.write("public")
        self.write("secret", mode=0o600)
        os.chown(self.write("mine", mode=0o400), NOBODY, NOBODY)
        self.write("closed/inner")
        (self.source / "closed").chmod(0o700)
        masked = self.write("masked", mode=0o600)
        os.chown(masked, 0, 4321)
        subprocess.run(["setfacl", "-m", "u:1234:rw", masked], check=True)
        mount = self.import_and_mount()
        for top in (self.source, mount.path):
            def opens(name, uid=NOBODY, gid=NOBODY, top=top):
                return self.as_user(uid, gid, lambda: open(top / name, "rb").close())
            self.assertEqual(opens("public"), 0)
            self.assertEqual(opens("mine"), 0)
            self.assertEqual(opens("secret"), errno.EACCES)
            self.assertEqual(opens("closed/inner"), errno.EACCES)
            # The mode shows rw for the group, which is the ACL's mask; the group's own entry has no rights.
            self.assertEqual(opens("masked", NOBODY, 4321), errno.EACCES)
            self.assertEqual(opens("masked", 1234, NOBODY), 0)

    def test_whatever_would_change_something_answers_erofs(self):
        self.write("file")
        root = self.import_and_mount().path
        for call, *arguments in ((os.open, root / "file", os.O_WRONLY), (os.truncate, root / "file", 0),
                                 (os.unlink, root / "file"), (os.mkdir, root / "new"), (os.chmod, root / "file", 0o600),
                                 (os.rename, root / "file", root / "new"), (os.symlink, "x", root / "new"),
                                 (os.setxattr, root / "file", "user.a", b"b")):
            with self.subTest(call=call.__name__):
                self.assert_errno(errno.EROFS, call, *arguments)

    def test_a_directory_of_many_names_is_listed_in_constant_memory(self):
        folder = self.source / "dir"
        folder.mkdir()
        names = [f"file-{number:06}-{'x' * (number % 50)}" for number in range(MANY_NAMES)]
        for name in names:
            os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
        mount = self.import_and_mount()
        os.listdir(mount.path)
        pids = (self.daemon.process.pid, mount.process.pid)
        before = [private_bytes(pid) for pid in pids]
        for _ in range(2):
            seen = set()
            with os.scandir(mount.path / "dir") as entries:
                seen.update(entry.name for entry in entries)
            self.assertEqual(len(seen), MANY_NAMES)
            self.assertEqual(seen, set(names))
        grown = [private_bytes(pid) - old for pid, old in zip(pids, before)]
        print(f"{MANY_NAMES} names: daemon {grown[0] >> 10} KiB, mount {grown[1] >> 10} KiB more memory of their own")
        self.assertLess(max(grown), 16 << 20)  # the names and attributes take 20 MB

    def test_holes_and_files_of_many_tib(self):
        with open(self.source / "huge", "wb") as file:
            file.write(b"begin")
            file.seek(7 * TIB + 12345)
            file.write(b"middle")
            file.truncate(15 * TIB)
        with open(self.source / "holes", "wb") as file:
            for megabyte in (1, 5, 6, 30):
                file.seek(megabyte << 20)
                file.write(os.urandom(70_000))
            file.truncate(40 << 20)
        report = self.import_tree()
        self.assertLess(report["stored_bytes"], 8 << 20)
        mount = self.start_and_mount()
        for name in ("huge", "holes"):
            source, shown = os.stat(self.source / name), os.stat(mount.path / name)
            self.assertEqual((source.st_size, source.st_blocks), (shown.st_size, shown.st_blocks))
        self.assertEqual((self.source / "holes").read_bytes(), (mount.path / "holes").read_bytes())
        descriptor = os.open(mount.path / "huge", os.O_RDONLY)
        try:
            self.assertEqual(os.pread(descriptor, 8, 0), b"begin\0\0\0")
            self.assertEqual(os.pread(descriptor, 12, 7 * TIB + 12342), b"\0\0\0middle\0\0\0")
            self.assertEqual(os.pread(descriptor, 1 << 20, 11 * TIB), bytes(1 << 20))
            self.assertEqual(os.pread(descriptor, 100, 15 * TIB - 10), bytes(10))
            self.assertEqual(os.pread(descriptor, 100, 15 * TIB), b"")
        finally:
            os.close(descriptor)

    def test_statfs_shows_the_data_set(self):
        self.make_files(50, 100_000)
        root = self.import_and_mount().path
        seen = os.statvfs(root)
        used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
        self.assertTrue(5_000_000 <= used <= 5_000_000 + 50 * seen.f_frsize, used)
        self.assertTrue(50 <= seen.f_files - seen.f_ffree <= 50 + 12, seen.f_files - seen.f_ffree)
        self.assertEqual((seen.f_bavail, seen.f_namemax), (0, 255))
        self.assertTrue(seen.f_flag & os.ST_RDONLY)

    def test_inode_numbers_are_the_same_on_mounts_nodes_and_after_restarts(self):
        self.make_files(40, 100)
        first = self.import_and_mount()
        second = self.mount()
        other = self.start_daemon("other")
        third = self.mount(daemon=other)

        def numbers(mount):
            return {path: os.lstat(os.path.join(mount.path, path)).st_ino for path in describe_tree(self.source)
                    for path in [os.fsdecode(path)]}

        before = numbers(first)
        self.assertEqual(before, numbers(second))
        self.assertEqual(before, numbers(third))
        self.daemon.terminate()
        self.daemon.start()
        wait_until(lambda: self.sessions(), 60, "a mount attaches again")
        self.assertEqual(before, numbers(first))
        self.assertEqual(before, numbers(self.mount()))

    def test_every_mode_of_reading_is_right_cold_from_memory_and_from_ssd(self):
        size = self.make_tree(small=400, dirs=8, large=3, large_size="24MiB")
        self.import_tree()
        ssd = [(self.root / "ssd", "1GiB")]
        self.start_daemon(memory="512MiB", devices=ssd)
        mounts = [self.mount(), self.mount()]
        self.wait_for_devices()
        self.verify_read(*mounts, passes=1, threads=4, mode="pread,direct,mmap,whole")
        cold = self.status()["origin"]["read_bytes"]
        self.assertGreaterEqual(cold, size)
        self.assertLess(cold, size * 1.3)
        self.verify_read(*mounts, passes=1, threads=4, mode="pread,direct,mmap,whole,random,reopen")
        warm = self.status()
        self.assertEqual(warm["origin"]["read_bytes"], cold)
        wait_until(lambda: self.status()["ssd"]["used_bytes"] > size, 60, "the SSD has the data set")
        self.daemon.terminate()  # its memory goes, its SSD stays
        self.daemon.start()
        self.wait_for_devices()
        wait_until(lambda: len(self.sessions()) == 2, 60, "both mounts attach again")
        self.verify_read(*mounts, passes=1, threads=4, mode="direct,whole")
        after = self.status()
        print(f"{size} bytes: {cold} read cold, {after['origin']['read_bytes']} after a restart, "
              f"{after['ssd']['hit_bytes']} from SSD")
        self.assertGreater(after["ssd"]["hit_bytes"], 0.8 * size)
        self.assertLess(after["origin"]["read_bytes"], 0.2 * size)

    def test_reads_of_an_evicting_arena_are_right(self):
        self.make_tree(small=300, large=4, large_size="40MiB")
        self.import_tree()
        self.start_daemon(memory="64MiB", shards=2)
        mounts = [self.mount(), self.mount()]
        self.verify_read(*mounts, seconds=5, threads=4, mode="pread,direct,mmap,whole,random,reopen")
        self.assertGreater(self.status()["memory"]["evictions"], 0)

    def test_a_tree_is_found_and_listed_without_an_operation_a_file(self):
        for number in range(20_000):
            path = self.source / f"{number // 400}" / f"file-{number:05}"
            path.parent.mkdir(exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        mount = self.import_and_mount()

        def find():
            before = self.cluster.osd_operations()["op_r"]
            found = subprocess.run(["find", str(mount.path), "-size", "-1", "-newermt", "2000-01-01"], check=True,
                                   capture_output=True, text=True, timeout=120).stdout.splitlines()
            self.assertEqual(sum("/file-" in line for line in found), 20_000)
            return self.cluster.osd_operations()["op_r"] - before

        cold, warm = find(), find()
        print(f"find over 20000 files: {cold} RADOS reads cold, {warm} warm")
        self.assertLess(cold, 100)
        self.assertLess(warm, 10)  # the head, as long as it takes

    def test_a_read_of_one_block_is_one_operation(self):
        self.write("large", os.urandom(16 << 20))
        mount = self.import_and_mount()
        read_direct(mount.path / "large", 0, 4096)  # checksums and tables are there now
        before = self.cluster.osd_operations()
        for block in range(1, 100, 10):
            self.assertEqual(read_direct(mount.path / "large", block << 17, 1 << 17),
                             read_direct(self.source / "large", block << 17, 1 << 17))
        after = self.cluster.osd_operations()
        # Ten blocks, and the head now and then.
        self.assertLess(after["op_r"] - before["op_r"], 20)
        self.assertLess(after["op_r_out_bytes"] - before["op_r_out_bytes"], 10 * (1 << 17) + 100_000)
