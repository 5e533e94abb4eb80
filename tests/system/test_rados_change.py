"""Snapshots of data sets in a real Ceph cluster: mounts follow the head, or do not; removing and importing beside readers."""

import errno
import os
import random
import signal
import subprocess
import time

from harness import wait_until
from rados_harness import COMMAND_TIMEOUT_S, EXIT_ERROR, RadosTest

LONG_S = 60


class RadosChangeTest(RadosTest):
    def publish(self, **files):
        """Imports a tree of these files; returns the snapshot's number."""
        for path in self.source.iterdir():
            path.unlink()
        for name, content in files.items():
            self.write(name, content)
        return self.import_tree()["snapshot"]

    def wait_for(self, path, content, timeout_s=LONG_S):
        def shows():
            try:
                return path.read_bytes() == content
            except FileNotFoundError:
                return False
        return wait_until(shows, timeout_s, f"{path.name} shows {content!r:.40}")

    # -- following the head ------------------------------------------------------------------------------------------

    def test_mounts_follow_the_head_within_the_attribute_timeout(self):
        self.publish(stays=b"same", changes=b"old", goes=b"here")
        root = self.start_and_mount(attr_timeout=1).path
        self.assertEqual((root / "changes").read_bytes(), b"old")
        self.assert_errno(errno.ENOENT, os.stat, root / "comes")
        self.publish(stays=b"same", changes=b"new and longer", comes=b"there")
        took_s = self.wait_for(root / "changes", b"new and longer")
        self.wait_for(root / "comes", b"there")
        wait_until(lambda: not (root / "goes").exists(), LONG_S, "what went is gone")
        self.assertEqual((root / "stays").read_bytes(), b"same")
        self.assertEqual(sorted(os.listdir(root)), ["changes", "comes", "stays"])
        print(f"the new head was followed {took_s:.2f} s after the import's end")
        # The attribute timeout, the age that the daemon lets the head have, and a busy machine.
        self.assertLess(took_s, 2 + 5)

    def test_open_files_keep_their_bytes_across_a_switch(self):
        old, new = os.urandom(20_000_000), os.urandom(20_000_000)
        self.publish(file=old, other=b"1")
        root = self.start_and_mount(attr_timeout=1).path
        with open(root / "file", "rb", buffering=0) as file:
            self.assertEqual(file.read(1000), old[:1000])
            self.publish(file=new, other=b"2")
            self.wait_for(root / "other", b"2")
            self.assertEqual((root / "file").read_bytes(), new)
            content = b""
            while part := os.pread(file.fileno(), 1 << 20, len(content)):
                content += part
            self.assertTrue(content == old)
            self.assertEqual(os.fstat(file.fileno()).st_size, len(old))

    def test_a_listing_goes_on_in_the_snapshot_that_it_began_in(self):
        before = {f"old-{number:04}": b"" for number in range(3000)}
        self.publish(**before)
        root = self.start_and_mount(attr_timeout=1).path
        with os.scandir(root) as entries:
            seen = [next(entries).name]
            self.publish(**{f"new-{number:04}": b"" for number in range(3000)})
            self.wait_for(root / "new-0000", b"")
            seen += [entry.name for entry in entries]
        self.assertEqual(sorted(seen), sorted(before))
        wait_until(lambda: all(name.startswith("new-") for name in os.listdir(root)), LONG_S, "a new listing is new")

    def test_a_mount_of_a_snapshot_stays_there(self):
        self.assertEqual(self.publish(file=b"one", only=b"1"), 1)
        self.start_daemon()
        first = self.mount(snapshot=1, attr_timeout=0.5).path
        self.assertEqual(self.publish(file=b"two"), 2)
        second, head = self.mount(snapshot=2, attr_timeout=0.5).path, self.mount(attr_timeout=0.5).path
        self.publish(file=b"three")
        self.wait_for(head / "file", b"three")
        time.sleep(1)  # longer than the attribute timeout: nothing may have changed
        self.assertEqual((first / "file").read_bytes(), b"one")
        self.assertEqual((second / "file").read_bytes(), b"two")
        self.assertEqual(sorted(os.listdir(first)), ["file", "only"])
        self.assertEqual((self.mount(snapshot=1).path / "only").read_bytes(), b"1")
        path = self.root / "refused"
        path.mkdir()
        _, line = self.run_to_failure(self.mount_command("data", path, "-f", snapshot=99))
        self.assertIn("snapshot 99 of volume data", line)
        self.assertIn("there is no such snapshot", line)
        _, line = self.run_to_failure(self.mount_command("local", path, "-f", snapshot=1))
        self.assertIn("local", line)

    def test_two_daemons_follow_a_new_head(self):
        self.publish(file=b"one")
        roots = [self.start_and_mount(attr_timeout=1).path,
                 self.mount(daemon=self.start_daemon("other"), attr_timeout=1).path]
        for content in (b"two", b"three"):
            self.publish(file=content)
            for root in roots:
                self.wait_for(root / "file", content)

    def test_readers_verify_while_snapshots_are_published(self):
        self.make_tree(small=200, large=2, large_size="16MiB")
        self.import_tree()
        self.start_daemon(memory="64MiB")
        mounts = [self.mount(attr_timeout=0.5), self.mount(attr_timeout=0.5)]
        reader = self.start_verify("read", *(mount.path for mount in mounts), "--manifest", self.manifest, "--seconds", 12,
                                   "--threads", 4, "--mode", "pread,direct,whole,random,reopen")
        snapshots = 0
        while reader.poll() is None:
            (self.source / "marker").write_text(str(snapshots))
            snapshots = self.import_tree()["snapshot"]
        self.finish_verify(reader)
        self.assertGreater(snapshots, 2)
        wait_until(lambda: (mounts[0].path / "marker").read_text() == str(snapshots - 1), LONG_S, "the last one is shown")

    # -- removing ----------------------------------------------------------------------------------------------------

    def test_readers_of_a_removed_snapshot_finish_during_the_grace(self):
        old = random.Random(1).randbytes(9_000_000)
        self.publish(file=old)
        mount = self.start_and_mount(snapshot=1)
        self.publish(file=b"new")
        objects = self.objects()
        with open(mount.path / "file", "rb", buffering=0) as file:
            self.run_ctl("volume", "remove-snapshot", "data", 1, "--grace", 3600, "--no-wait")
            self.run_ctl("volume", "collect", "data")
            self.assertEqual(self.objects(), objects)
            self.assertTrue(b"".join(iter(lambda: file.read(1 << 20), b"")) == old)
        marked = self.ask("volume", "snapshots", "data")[0]
        self.assertGreater(marked["delete_at"], time.time())
        self.verify_is_clean()

    def test_a_removed_snapshot_is_gone_after_its_grace_and_the_others_are_whole(self):
        old, kept = random.Random(2).randbytes(9_000_000), random.Random(3).randbytes(9_000_000)
        self.publish(old=old, kept=kept)
        daemon = self.start_daemon()
        root = self.mount(attr_timeout=0.5).path
        snapshot = self.mount(snapshot=1).path
        self.assertEqual(os.stat(snapshot / "old").st_size, len(old))
        self.settle()
        self.publish(kept=kept, new=b"new")
        self.run_ctl("volume", "remove-snapshot", "data", 1, "--grace", 1)
        self.verify_is_clean()
        self.assertTrue((root / "kept").read_bytes() == kept)
        with self.assertRaises(OSError) as caught:  # never zeros
            (snapshot / "old").read_bytes()
        self.assertIn(caught.exception.errno, (errno.EIO, errno.ESTALE, errno.ENOENT))
        path = self.root / "refused"
        path.mkdir()
        daemon.terminate()
        daemon.start()
        _, line = self.run_to_failure(self.mount_command("data", path, "-f", snapshot=1))
        self.assertIn("snapshot 1 of volume data", line)

    def test_a_destroyed_data_set_is_said_to_be_gone_and_can_be_made_anew(self):
        self.publish(file=b"first life")
        mount = self.start_and_mount(attr_timeout=0.5)
        self.run_ctl("volume", "destroy", "data", "--yes")

        def says_that_it_is_gone():
            os.listdir(mount.path)  # the head is asked for when somebody looks
            return "no data set" in self.volume()["trouble"]

        wait_until(says_that_it_is_gone, LONG_S, "the volume says that it is gone")
        self.publish(file=b"second life")
        self.wait_for(mount.path / "file", b"second life")
        wait_until(lambda: self.volume()["trouble"] == "", LONG_S, "the trouble is over")
        self.verify_is_clean()

    # -- finding what is wrong ---------------------------------------------------------------------------------------

    def test_verify_finds_damage_of_each_kind_and_orphans(self):
        self.make_files(30, 50_000)
        (self.source / "large").write_bytes(random.Random(6).randbytes(13_000_000))
        self.import_tree()
        self.verify_is_clean()
        pieces = [name for name in self.objects() if ".00000001" in name[-9:]]
        good = self.get_object(pieces[0])
        for wrong in (good[:-1], good[:1000] + b"!" + good[1001:], b""):
            self.put_object(pieces[0], wrong)
            report = self.ask("volume", "verify", "data", status=EXIT_ERROR)
            self.assertIn(pieces[0], "\n".join(report["problems"]))
        self.put_object(pieces[0], good)
        for name in self.objects("meta"):
            if "/m." not in name:
                continue
            content = self.get_object(name, "meta")
            self.put_object(name, content[:200] + bytes([content[200] ^ 1]) + content[201:], "meta")
            self.ask("volume", "verify", "data", status=EXIT_ERROR)
            self.put_object(name, content, "meta")
        self.put_object(f"{self.dataset}/d.00000000000000aa.000000000001.00000000", b"nobody's")
        report = self.ask("volume", "verify", "data")
        self.assertEqual((report["problem_count"], report["orphans"]), (0, 1))
        self.run_ctl("volume", "collect", "data", "--orphans")
        self.verify_is_clean()

    # -- importing beside changes ------------------------------------------------------------------------------------

    def test_a_source_that_changes_during_the_import_is_named(self):
        self.make_files(40, 3_000_000)
        victim = self.source / "zz-last"
        victim.write_bytes(bytes(48 << 20))  # many pieces, so that an attempt takes longer than this process may have no CPU
        process = self.start_import()
        self.stop_import_when(process, lambda: len(self.objects()) > 2)
        stop = time.monotonic() + COMMAND_TIMEOUT_S
        process.send_signal(signal.SIGCONT)
        while process.poll() is None:  # whenever the import looks, it changes under it
            self.assertLess(time.monotonic(), stop)
            with open(victim, "r+b") as file:
                file.write(os.urandom(16))
        _, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        self.assertEqual(process.returncode, EXIT_ERROR, errors)
        self.assertIn("zz-last", errors)
        self.assertEqual(self.ask("volume", "info", "data")["current"], 0)
        self.import_tree()
        self.run_ctl("volume", "collect", "data", "--orphans")
        self.verify_is_clean()

    def test_an_import_beside_readers_and_a_killed_one_disturb_nobody(self):
        self.make_tree(small=200, large=2, large_size="16MiB")
        self.import_tree()
        mount = self.start_and_mount(attr_timeout=0.5)
        reader = self.start_verify("read", mount.path, "--manifest", self.manifest, "--seconds", 6, "--threads", 2,
                                   "--mode", "pread,direct,whole")
        self.make_files(60, 3_000_000, folder="more")
        before = len(self.objects())
        process = self.start_import()
        self.stop_import_when(process, lambda: len(self.objects()) > before + 3)
        process.kill()
        process.wait()
        self.finish_verify(reader)
        self.assertEqual(self.ask("volume", "info", "data")["current"], 1)
        self.assertFalse((mount.path / "more").exists())
        self.import_tree()
        wait_until(lambda: (mount.path / "more").exists(), LONG_S, "the second import is shown")
        subprocess.run(["diff", "-r", str(self.source), str(mount.path)], check=True, timeout=COMMAND_TIMEOUT_S)

    def test_the_progress_of_an_import_is_shown(self):
        self.make_files(30, 2_000_000)
        process = self.start_import()
        _, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        self.assertEqual(process.returncode, 0, errors)
        # To a terminal it is one line that is written again and again.
        script = subprocess.run(["script", "-qec", " ".join(self.command("import", self.source, "data")), "/dev/null"],
                                capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
        self.assertRegex(script.stdout, r"import: \d+ of (at least )?\d+ files, [\d.]+ ?\w+ of [\d.]+ ?\w+, [\d.]+ ?\w+/s")
