"""What a mount shows: the source's tree, unchanged and unchangeable."""

import errno
import os
import re
import socket
import stat
import subprocess
import unittest

from harness import NOBODY, SystemTest, wait_until


def describe(path):
    """Everything that must be equal at the source and through a mount."""
    status = os.lstat(path)
    seen = {
        "mode": oct(status.st_mode), "uid": status.st_uid, "gid": status.st_gid, "nlink": status.st_nlink,
        "mtime": status.st_mtime_ns, "ctime": status.st_ctime_ns,
        "rdev": status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0,
    }
    if not stat.S_ISDIR(status.st_mode):
        seen["size"] = status.st_size
    if stat.S_ISLNK(status.st_mode):
        seen["target"] = os.readlink(path)
    else:
        seen["xattrs"] = {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            seen["content"] = file.read()
    return seen


def describe_tree(top):
    top = os.fsencode(top)
    tree = {b".": describe(top)}
    for parent, directories, names in os.walk(top):
        for name in directories + names:
            path = os.path.join(parent, name)
            tree[os.path.relpath(path, top)] = describe(path)
    return tree


class TreeTest(SystemTest):
    def start(self, **options):
        self.start_daemon()
        return self.mount(**options)

    def assert_same_tree(self, mount):
        expected = describe_tree(self.source)
        seen = describe_tree(mount.path)
        self.assertEqual(sorted(expected), sorted(seen))
        for path, description in expected.items():
            for key, value in description.items():
                self.assertTrue(value == seen[path][key],
                                f"{path}: {key}: {value!r:.200} became {seen[path][key]!r:.200}")

    def test_a_mount_shows_the_tree_as_it_is(self):
        self.write_varied_tree()
        self.write("odd/size", os.urandom(300_001))
        self.assert_same_tree(self.start())

    def test_symlinks_are_shown_and_followed_by_the_kernel(self):
        self.write("dir/target", b"through a link")
        os.symlink("dir/target", self.source / "relative")
        os.symlink("/etc/hostname", self.source / "absolute")
        os.symlink("nowhere", self.source / "dangling")
        os.symlink("x" * 1000, self.source / "long")
        os.symlink("..", self.source / "dir/up")
        mount = self.start()
        self.assert_same_tree(mount)
        self.assertEqual((mount.path / "relative").read_bytes(), b"through a link")
        self.assertEqual((mount.path / "dir/up/dir/target").read_bytes(), b"through a link")
        self.assert_errno(errno.ENOENT, os.stat, mount.path / "dangling")

    def test_xattrs_are_shown(self):
        path = self.write("file")
        try:
            os.setxattr(path, "user.text", b"value")
        except OSError as error:
            raise unittest.SkipTest(f"the test directory's file system has no user xattrs: {error}")
        os.setxattr(path, "user.binary", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.large", b"l" * 2000)
        os.setxattr(self.source, "user.of-the-root", b"root")
        mount = self.start()
        self.assert_same_tree(mount)
        self.assert_errno(errno.ENODATA, os.getxattr, mount.path / "file", "user.absent")

    def test_acls_are_shown(self):
        path = self.write("file")
        self.set_acl(path, "u:1234:r,g:5678:rw")
        (self.source / "dir").mkdir()
        self.set_acl(self.source / "dir", "d:u:1234:rwx")
        mount = self.start()
        self.assert_same_tree(mount)
        for name in ("file", "dir"):
            acls = [subprocess.run(["getfacl", "-nc", top / name], check=True, capture_output=True, text=True).stdout
                    for top in (self.source, mount.path)]
            self.assertIn("user:1234:r", acls[0])
            self.assertEqual(*acls)

    def set_acl(self, path, entries):
        done = subprocess.run(["setfacl", "-m", entries, path], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise unittest.SkipTest(f"the test directory's file system has no ACLs: {done.stderr}")

    def test_special_files_are_shown(self):
        os.mkfifo(self.source / "fifo", 0o640)
        os.mknod(self.source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(self.source / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 99))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.source / "socket"))
        self.assert_same_tree(self.start())

    def test_names_of_any_bytes_are_shown(self):
        names = [b"n" * 255, "ü".encode() * 127, b"\xff\xfe\x80invalid-utf8", b"new\nline", b" blank ", b"-dash",
                 b"\x01\x7f", b"quote\"'\\", b"%s%n"]
        for name in names:
            with open(os.path.join(os.fsencode(self.source), name), "wb") as file:
                file.write(name)
        mount = self.start()
        self.assert_same_tree(mount)
        self.assertEqual(sorted(os.listdir(os.fsencode(mount.path))), sorted(names))
        self.assert_errno(errno.ENAMETOOLONG, os.stat, os.path.join(os.fsencode(mount.path), b"n" * 256))

    def test_a_directory_of_20000_names_is_listed_completely(self):
        names = [f"file-{i:05}-{'x' * (i % 50)}" for i in range(20_000)]
        (self.source / "dir").mkdir()
        for name in names:
            (self.source / "dir" / name).touch()
        mount = self.start()
        for _ in range(2):
            listed = os.listdir(mount.path / "dir")
            self.assertEqual(len(listed), len(names))
            self.assertEqual(set(listed), set(names))
        with os.scandir(mount.path / "dir") as entries:
            self.assertTrue(all(entry.is_file(follow_symlinks=False) for entry in entries))
        inodes = {os.lstat(mount.path / "dir" / name).st_ino for name in names}
        self.assertEqual(len(inodes), len(names))

    def test_absent_names_are_absent_until_they_are_made(self):
        mount = self.start(attr_timeout=0.5)
        for _ in range(100):
            self.assert_errno(errno.ENOENT, os.stat, mount.path / "later")
        self.assert_errno(errno.ENOENT, os.stat, mount.path / "no-directory/name")
        self.write("later", b"made")
        wait_until((mount.path / "later").exists, 0.8, "a name made at the source is seen within the attribute timeout")
        self.assertEqual((mount.path / "later").read_bytes(), b"made")
        self.assert_errno(errno.ENOTDIR, os.stat, mount.path / "later/below")

    def test_whatever_would_change_something_answers_erofs(self):
        self.write("file")
        (self.source / "dir").mkdir()
        root = self.start().path
        file, directory = root / "file", root / "dir"
        for call, *arguments in (
                (os.open, file, os.O_WRONLY), (os.open, file, os.O_RDWR),
                (os.open, root / "new", os.O_CREAT | os.O_WRONLY),
                (os.truncate, file, 0), (os.unlink, file), (os.rmdir, directory), (os.mkdir, root / "new"),
                (os.rename, file, root / "new"), (os.link, file, root / "new"), (os.symlink, "x", root / "new"),
                (os.mkfifo, root / "new"), (os.chmod, file, 0o600), (os.chown, file, 1, 1), (os.utime, file),
                (os.setxattr, file, "user.a", b"b"), (os.removexattr, file, "user.a")):
            with self.subTest(call=call.__name__):
                self.assert_errno(errno.EROFS, call, *arguments)
        self.assertFalse(os.access(file, os.W_OK))
        self.assertEqual(file.read_bytes(), b"content\n")

    def test_permissions_hold_for_other_users(self):
        self.write("public", mode=0o644)
        self.write("secret", mode=0o600)
        os.chown(self.write("mine", mode=0o400), NOBODY, NOBODY)
        self.write("closed/inner")
        (self.source / "closed").chmod(0o700)
        root = self.start().path
        for top in (self.source, root):
            def opens(name, top=top):
                return self.as_user(NOBODY, NOBODY, lambda: open(top / name, "rb").close())
            self.assertEqual(opens("public"), 0)
            self.assertEqual(opens("mine"), 0)
            self.assertEqual(opens("secret"), errno.EACCES)
            self.assertEqual(opens("closed/inner"), errno.EACCES)

    def test_the_mask_of_an_acl_is_not_taken_for_the_groups_rights(self):
        path = self.write("file", mode=0o600)
        os.chown(path, 0, 4321)
        self.set_acl(path, "u:1234:rw")  # the mode now shows rw for the group, but its entry is ---
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o660)
        root = self.start().path
        for top in (self.source, root):
            def opens(uid, gid, top=top):
                return self.as_user(uid, gid, lambda: open(top / "file", "rb").close())
            self.assertEqual(opens(NOBODY, 4321), errno.EACCES)
            self.assertEqual(opens(1234, NOBODY), 0)

    def test_stats_are_readable_and_not_listed(self):
        self.write("dir/file")
        root = self.start().path
        (root / "dir/file").read_bytes()
        text = (root / ".stats").read_text()
        samples = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.assertTrue(samples)
        for line in samples:
            self.assertRegex(line, re.compile(r'^[a-z_]+(\{[^}]*\})? [-+0-9.eE]+$'))
        self.assertEqual(os.listdir(root), ["dir"])
        self.assert_errno(errno.ENOENT, os.stat, root / "dir/.stats")
        self.assert_errno(errno.EROFS, os.open, root / ".stats", os.O_WRONLY)

    def test_statfs_shows_the_data_sets_bytes_and_files(self):
        data_bytes = self.make_tree(small=40, large=1)
        root = self.start().path

        def shown():
            seen = os.statvfs(root)
            used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
            files = seen.f_files - seen.f_ffree
            # Directories may count as files; bytes are in units of a block.
            return 41 <= files <= 41 + 8 and data_bytes <= used <= data_bytes * 1.02 + 41 * seen.f_frsize

        wait_until(shown, 10, f"statfs shows {data_bytes} bytes and 41 files")
        seen = os.statvfs(root)
        self.assertEqual(seen.f_bavail, 0)
        self.assertEqual(seen.f_namemax, 255)
        self.assertTrue(seen.f_flag & os.ST_RDONLY)
