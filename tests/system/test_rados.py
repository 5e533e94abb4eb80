"""Data sets in a real Ceph cluster: cachedctl import, export and volume."""

import json
import os
import pathlib
import random
import shutil
import signal
import stat
import subprocess
import time

from ceph_cluster import CephCluster
from harness import SystemTest, stop_process, wait_until

EXIT_ERROR, EXIT_USAGE = 1, 2
COMMAND_TIMEOUT_S = 120


def tree_state(root):
    """Everything about a tree that an export must give back, by path."""
    inodes = {}
    state = {}
    for directory, names, files in os.walk(root):
        for name in [""] + names + files:
            path = os.path.join(os.fsencode(directory), os.fsencode(name)) if name else os.fsencode(directory)
            key = os.path.relpath(path, os.fsencode(root))
            info = os.lstat(path)
            attributes = {xattr: os.getxattr(path, xattr, follow_symlinks=False)
                          for xattr in os.listxattr(path, follow_symlinks=False)}
            regular = stat.S_ISREG(info.st_mode)
            content = pathlib.Path(os.fsdecode(path)).read_bytes() if regular else b""
            target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else b""
            group = inodes.setdefault(info.st_ino, key)
            state[key] = (info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_mtime_ns, attributes, content,
                          target, info.st_nlink if regular else 0, group if regular else b"",
                          info.st_blocks if regular else 0)
    return state


class RadosTest(SystemTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for program in ("ceph-mon", "ceph-osd", "rados"):
            if shutil.which(program) is None:
                raise AssertionError(f"{program} is missing; packages.list names its package")
        cls.cluster = CephCluster(osds=1, pools=("data", "meta"))
        cls.addClassCleanup(cls.cluster.stop)

    def setUp(self):
        super().setUp()
        self.config = self.root / "cached.toml"
        self.dataset = f"set-{self._testMethodName[5:40]}"
        self.write_config()

    def write_config(self, **changes):
        values = {"source": f"rados:data/{self.dataset}", "metadata_pool": "meta",
                  "ceph_conf": self.cluster.conf_file, "keyring": self.cluster.keyring} | changes
        text = '[memory]\nsize = "64MiB"\n[[volume]]\nname = "set"\n' + "".join(f'{key} = "{value}"\n' for key, value in values.items())
        self.config.write_text(text)

    def command(self, *arguments):
        return [self.program("cachedctl"), *map(str, arguments), "--config", str(self.config)]

    def run_ctl(self, *arguments, status=0):
        """Runs cachedctl to its end and checks the exit status; returns the finished process."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
                              check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def start_import(self):
        process = subprocess.Popen(self.command("import", self.source, "set"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def stop_import_when(self, process, condition):
        """Leaves the import stopped at a moment when `condition` holds: looked at while it stands still."""
        while True:
            stop_process(process.pid)
            if condition():
                break
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
            self.assertIsNone(process.poll(), "the import ended too early")

    def ask(self, *arguments, status=0):
        return json.loads(self.run_ctl(*arguments, "--json", status=status).stdout)

    def import_tree(self, status=0):
        return self.ask("import", self.source, "set", status=status)

    def verify_is_clean(self):
        report = self.ask("volume", "verify", "set")
        self.assertEqual((report["problem_count"], report["orphans"]), (0, 0), report)
        return report

    def objects(self, pool="data"):
        names = self.cluster.command("rados", "-p", pool, "ls").split()
        return [name for name in names if name.startswith(self.dataset + "/")]

    def make_files(self, count, size, seed=1, folder="files"):
        generator = random.Random(seed)
        for number in range(count):
            path = self.source / folder / f"{number % 10}" / f"file-{number:05}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(generator.randbytes(size))

    def test_import_and_export_keep_everything(self):
        self.make_files(30, 40_000)
        (self.source / "large").write_bytes(random.Random(2).randbytes(9_000_001))
        (self.source / "empty").touch()
        os.link(self.source / "large", self.source / "files" / "another name")
        os.symlink("files/0", self.source / "link")
        os.mkfifo(self.source / "pipe", 0o620)
        os.mknod(self.source / "device", stat.S_IFCHR | 0o640, os.makedev(10, 300))
        (self.source / os.fsdecode(b"\xff\xfe\n" + b"x" * 252)).write_bytes(b"odd name")
        with open(self.source / "sparse", "wb") as sparse:
            sparse.seek(20_000_000)
            sparse.write(b"data")
            sparse.truncate(50_000_000)
        os.setxattr(self.source / "large", "user.note", b"\0binary\xff")
        subprocess.run(["setfacl", "-m", "u:1234:rwx", str(self.source / "files")], check=True)
        os.chown(self.source / "files" / "0", 1001, 1002)
        os.chmod(self.source / "files" / "0", 0o2755)
        os.utime(self.source / "link", ns=(10**18 + 1, 10**18 + 2), follow_symlinks=False)
        os.utime(self.source / "files", ns=(10**18 + 3, 10**18 + 4))
        report = self.import_tree()
        self.assertEqual(report["snapshot"], 1)
        self.run_ctl("export", "set", self.root / "back")
        before, after = tree_state(self.source), tree_state(self.root / "back")
        self.assertEqual(before.keys(), after.keys())
        for path, state in before.items():
            self.assertEqual(after[path], state, path)
        self.verify_is_clean()

    def test_a_changed_tree_moves_only_what_changed(self):
        self.make_files(100, 64_000)
        self.settle()
        self.assertGreater(self.import_tree()["stored_bytes"], 6_400_000 - 1)
        (self.source / "files/3/file-00003").write_bytes(b"changed")
        report = self.import_tree()
        self.assertEqual(report["stored_bytes"], len(b"changed"))
        self.assertEqual(report["reused_files"], 99)
        self.assertEqual([item["number"] for item in self.ask("volume", "snapshots", "set")], [1, 2])
        self.verify_is_clean()

    def test_kill_9_leaves_the_published_head_whole(self):
        self.make_files(20, 50_000)
        self.import_tree()
        self.make_files(60, 3_000_000, seed=3, folder="more")
        for _ in range(3):
            process = self.start_import()
            before = len(self.objects())
            self.stop_import_when(process, lambda: len(self.objects()) > before + 2)
            process.kill()
            process.wait()
            self.assertEqual(self.ask("volume", "info", "set")["current"], 1)
            self.run_ctl("volume", "verify", "set", "--snapshot", 1)
        report = self.import_tree()
        self.assertEqual((report["snapshot"], report["resumed_imports"]), (2, 3))
        self.run_ctl("volume", "collect", "set", "--orphans")
        self.assertEqual(self.verify_is_clean()["snapshots"], 2)

    def test_an_interrupted_import_goes_on(self):
        self.make_files(60, 3_000_000)
        self.settle()
        process = self.start_import()
        self.stop_import_when(process, lambda: len(self.objects()) > 5)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        self.assertEqual(process.returncode, EXIT_ERROR)
        self.assertIn("goes on where this one stopped", errors)
        report = self.import_tree()
        self.assertGreaterEqual(report["reused_files"], 5)
        self.assertEqual(report["reused_bytes"] + report["stored_bytes"], 60 * 3_000_000)
        self.verify_is_clean()

    def test_of_two_imports_at_once_one_wins_and_the_other_is_told(self):
        self.make_files(40, 3_000_000)
        slower = self.start_import()
        self.stop_import_when(slower, lambda: len(self.objects()) > 1)
        self.assertEqual(self.import_tree()["snapshot"], 1)
        slower.send_signal(signal.SIGCONT)
        _, errors = slower.communicate(timeout=COMMAND_TIMEOUT_S)
        self.assertEqual(slower.returncode, EXIT_ERROR)
        self.assertIn("another import", errors)
        self.assertEqual(self.ask("volume", "info", "set")["current"], 1)
        self.run_ctl("volume", "collect", "set", "--orphans", "--unfinished")
        self.verify_is_clean()

    def test_removing_a_snapshot_deletes_what_nothing_else_uses(self):
        self.make_files(20, 50_000)
        (self.source / "old").write_bytes(random.Random(5).randbytes(6_000_000))
        self.settle()
        self.import_tree()
        (self.source / "old").unlink()
        self.import_tree()
        before = len(self.objects())
        self.run_ctl("volume", "remove-snapshot", "set", 2, status=EXIT_ERROR)
        self.assertEqual(self.ask("volume", "remove-snapshot", "set", 1, "--grace", 0)["snapshots"], 1)
        self.assertEqual(len(self.objects()), before - 2)
        self.assertEqual([item["number"] for item in self.ask("volume", "snapshots", "set")], [2])
        self.verify_is_clean()
        self.run_ctl("volume", "destroy", "set", status=EXIT_USAGE)
        self.run_ctl("volume", "destroy", "set", "--yes")
        self.assertEqual(self.objects() + self.objects("meta"), [])
        self.run_ctl("volume", "info", "set", status=EXIT_ERROR)

    def test_damage_is_found_and_named(self):
        self.make_files(5, 50_000)
        (self.source / "large").write_bytes(random.Random(6).randbytes(9_000_000))
        self.import_tree()
        lost = next(name for name in self.objects() if name.endswith(".00000002"))
        self.cluster.command("rados", "-p", "data", "rm", lost)
        done = self.run_ctl("volume", "verify", "set", status=EXIT_ERROR)
        self.assertIn(lost, done.stderr)
        self.assertIn("the file large is damaged", done.stderr)
        done = self.run_ctl("export", "set", self.root / "back", status=EXIT_ERROR)
        self.assertIn("large", done.stderr)

    def test_a_full_pool_ends_an_import_that_can_go_on(self):
        self.make_files(60, 3_000_000)
        self.settle()
        process = self.start_import()
        self.stop_import_when(process, lambda: len(self.objects()) > 5)
        socket = self.cluster.directory / "osd.0.asok"
        self.cluster.command("ceph", "daemon", socket, "injectfull", "full", "-1")
        self.addCleanup(self.cluster.command, "ceph", "daemon", socket, "injectfull", "none")
        wait_until(lambda: "full" in self.cluster.command("ceph", "health", "detail"), 60, "the OSD is full")
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        self.assertEqual(process.returncode, EXIT_ERROR)
        self.assertIn("Free some space and run the same command again", errors)
        self.assertEqual(self.ask("volume", "info", "set")["current"], 0)
        self.cluster.command("ceph", "daemon", socket, "injectfull", "none")
        wait_until(lambda: "full" not in self.cluster.command("ceph", "health", "detail"), 60, "the OSD has room")
        self.assertEqual(self.import_tree()["snapshot"], 1)
        self.run_ctl("volume", "collect", "set", "--orphans")
        self.verify_is_clean()

    def test_what_is_missing_is_said_clearly(self):
        self.run_ctl("volume", "info", "set", status=EXIT_ERROR)
        done = self.run_ctl("volume", "info", "nonsense", status=EXIT_USAGE)
        self.assertIn("rados:POOL/NAME", done.stderr)
        self.write_config(source=f"rados:nowhere/{self.dataset}", metadata_pool="nowhere")
        self.assertIn("nowhere", self.run_ctl("volume", "info", "set", status=EXIT_ERROR).stderr)
        done = self.run_ctl("import", self.root / "absent", "set", status=EXIT_ERROR)

    def test_a_tree_of_many_files_needs_little_metadata(self):
        self.make_files(20_000, 100)
        report = self.import_tree()
        bytes_a_file = report["metadata_bytes"] / report["files"]
        print(f"{bytes_a_file:.1f} bytes of metadata a file")
        self.assertLess(bytes_a_file, 150)
        before = self.cluster.osd_operations()
        listed = {item["volume"] for item in self.ask("volume", "list")}
        self.assertIn(f"rados:data/{self.dataset}", listed)
        self.run_ctl("export", "set", self.root / "back")
        after = self.cluster.osd_operations()
        # 2 MB of data in packs of 4 MiB, 0.7 MB of metadata.
        print(f"{after['op_r'] - before['op_r']} reads for {report['files']} files")
        self.assertLess(after["op_r"] - before["op_r"], 60)
