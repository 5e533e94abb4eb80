"""Data sets in a real Ceph cluster when it hangs, dies, is not there, or gives wrong bytes."""

import errno
import os
import re
import subprocess
import threading
import time

from harness import read_direct, wait_until
from rados_harness import EXIT_ERROR, RadosTest

BLOCK = 128 * 1024
PIECE = 4 << 20
LONG_S = 120  # far more than anything here takes on a busy machine


class Reads:
    """Reads of one block each, every one in a thread of its own, that may take their time."""

    def __init__(self, path, offsets):
        self.results = {}
        self.threads = [threading.Thread(target=self._read, args=(path, offset), daemon=True) for offset in offsets]
        for thread in self.threads:
            thread.start()

    def _read(self, path, offset):
        begin = time.monotonic()
        try:
            result = read_direct(path, offset, BLOCK)
        except OSError as error:
            result = error.errno
        self.results[offset] = (result, time.monotonic() - begin)

    def running(self):
        return sum(thread.is_alive() for thread in self.threads)

    def finish(self):
        for thread in self.threads:
            thread.join(LONG_S)
        assert not self.running(), "reads hang"
        return self.results


class RadosTroubleTest(RadosTest):
    def start_with_large_file(self, pieces=4, rados=None, **options):
        """A file of some pieces, a daemon and a mount. Returns (file at the source, file at the mount)."""
        self.write("large", os.urandom(pieces * PIECE))
        self.write("small", b"small")
        self.import_tree()
        self.start_daemon(rados=rados)
        mount = self.mount(**options)
        return self.source / "large", mount.path / "large"

    def expected(self, source, offset):
        with open(source, "rb") as file:
            return os.pread(file.fileno(), BLOCK, offset)

    def make_table_cache_warm(self, shown):
        """The metadata that reads of this file need is there, and one block of it."""
        self.assertEqual(len(read_direct(shown, 0, BLOCK)), BLOCK)

    def lines_with(self, text):
        return [line for line in self.daemon_log() if text in line]

    def mount_fails(self):
        """Tries to mount "data"; returns the line that says why that cannot be."""
        path = self.root / "refused"
        path.mkdir(exist_ok=True)
        _, line = self.run_to_failure(self.mount_command("data", path, "-f"))
        return line

    def mount_when_possible(self):
        """Waits until "data" can be mounted, as an administrator would by trying."""
        path = self.root / "ready"
        path.mkdir()
        deadline = time.monotonic() + LONG_S
        command = self.mount_command("data", path, daemon_timeout=10)
        while subprocess.run(command, capture_output=True, timeout=LONG_S, check=False).returncode != 0:
            self.assertLess(time.monotonic(), deadline, "the volume does not come up")
            time.sleep(0.2)
        return path

    def unmount_path(self, path):
        subprocess.run(["umount", str(path)], check=True, timeout=LONG_S)

    # -- OSDs --------------------------------------------------------------------------------------------------------

    def test_hits_go_on_and_misses_wait_while_the_osd_is_stopped(self):
        for number in range(200):
            (self.local / f"{number}").write_bytes(os.urandom(BLOCK))
        source, shown = self.start_with_large_file(pieces=24, attr_timeout=0.5)
        # A thread of a mount waits with its read, so it takes two mounts to have more than a shard gives to a source.
        waiting = [self.mount(threads=64).path / "large" for _ in range(2)]
        local = self.mount("local")
        names = sorted(os.listdir(shown.parent))
        self.make_table_cache_warm(shown)
        self.cluster.pause("osd")
        offsets = range(BLOCK, 24 * PIECE, 16 * BLOCK)
        reads = [Reads(path, [offset + index * BLOCK for offset in offsets]) for index, path in enumerate(waiting)]
        wait_until(lambda: self.status()["origin"]["in_flight"] >= 64, 30, "reads are at the cluster, all it is given")
        time.sleep(1)  # names and attributes in the root are older than their timeout
        begin = time.monotonic()
        self.assertEqual(read_direct(shown, 0, BLOCK), self.expected(source, 0))
        self.assertEqual(sorted(os.listdir(shown.parent)), names)
        self.assertEqual(os.stat(shown).st_size, 24 * PIECE)
        for number in range(200):  # and another volume's misses do not wait with those of this one
            self.assertEqual((local.path / f"{number}").read_bytes(), (self.local / f"{number}").read_bytes())
        hits_took_s = time.monotonic() - begin
        print(f"hits and another volume's misses beside {sum(part.running() for part in reads)} waiting reads: {hits_took_s:.1f} s")
        self.assertLess(hits_took_s, 20)  # the reads wait for up to 60
        self.assertEqual(sum(part.running() for part in reads), 2 * len(offsets))
        self.assertIn("does not answer", self.volume()["trouble"])
        self.cluster.resume("osd")
        for offset, (result, _) in (reads[0].finish() | reads[1].finish()).items():
            self.assertEqual(result, self.expected(source, offset), f"offset {offset}")
        self.assertEqual(self.status()["origin"]["errors"], 0)
        wait_until(lambda: self.volume()["trouble"] == "", LONG_S, "the trouble is over")

    def test_misses_outlast_the_daemon_timeout_of_a_mount(self):
        source, shown = self.start_with_large_file(daemon_timeout=2)
        self.make_table_cache_warm(shown)
        session = self.sessions()[0]["id"]
        self.cluster.pause("osd")
        reads = Reads(shown, [PIECE])
        time.sleep(6)
        self.assertEqual(reads.running(), 1)
        self.cluster.resume("osd")
        result, took_s = reads.finish()[PIECE]
        self.assertEqual(result, self.expected(source, PIECE))
        self.assertGreater(took_s, 5)
        self.assertEqual(self.sessions()[0]["id"], session)  # nobody took the daemon for dead

    def test_misses_fail_after_the_origin_timeout_and_the_log_names_the_object_once(self):
        source, shown = self.start_with_large_file(rados={"origin_timeout_ms": 3000})
        self.make_table_cache_warm(shown)
        self.cluster.pause("osd")
        offsets = range(BLOCK, 4 * PIECE, PIECE // 4)
        for offset, (result, took_s) in Reads(shown, offsets).finish().items():
            self.assertEqual(result, errno.EIO, f"offset {offset}")
            self.assertLess(took_s, 60)
            self.assertGreater(took_s, 1)
        trouble = [line for line in self.daemon_log() if "rados pool" in line and f"{self.dataset}/" in line]
        self.assertTrue(1 <= len(trouble) <= 4, trouble)
        self.assertRegex(trouble[0], rf"object `{self.dataset}/[dm]\.\w+\.\w+\.\w+`|object `{self.dataset}/head`")
        self.cluster.resume("osd")
        self.cluster.wait_for_osds()

        def reads_again():
            return all(result == self.expected(source, offset)
                       for offset, (result, _) in Reads(shown, offsets).finish().items())

        wait_until(reads_again, LONG_S, "what failed can be read")

    def test_misses_wait_for_an_osd_that_was_killed(self):
        # A thread of the mount waits with each miss: one must be left for the hit.
        source, shown = self.start_with_large_file(threads=16)
        self.make_table_cache_warm(shown)
        self.cluster.kill("osd.0")
        reads = Reads(shown, range(BLOCK, 4 * PIECE, PIECE // 2))
        self.assertEqual(read_direct(shown, 0, BLOCK), self.expected(source, 0))
        self.cluster.restart("osd.0")
        for offset, (result, _) in reads.finish().items():
            self.assertEqual(result, self.expected(source, offset), f"offset {offset}")

    # -- the monitor -------------------------------------------------------------------------------------------------

    def test_without_a_monitor_the_daemon_serves_its_other_volumes_and_this_one_later(self):
        self.write("file", b"from RADOS")
        (self.local / "file").write_bytes(b"from a directory")
        self.import_tree()
        self.cluster.pause("mon")
        self.start_daemon()
        wait_until(lambda: "no monitor of" in self.volume()["trouble"], LONG_S, "the volume says what is missing")
        local = self.mount("local")
        self.assertEqual((local.path / "file").read_bytes(), b"from a directory")
        line = self.mount_fails()
        self.assertIn("volume data", line)
        self.assertIn("no monitor of", line)
        self.assertIn("no monitor of", self.daemon.control("volumes").stdout)
        # From the store, the volume and the refusal; not once for each try.
        self.assertLess(len(self.lines_with("no monitor of")), 6, self.daemon_log())
        self.cluster.resume("mon")
        path = self.mount_when_possible()
        self.assertEqual((path / "file").read_bytes(), b"from RADOS")
        wait_until(lambda: self.volume()["trouble"] == "", LONG_S, "the trouble is over")
        self.unmount_path(path)

    def test_what_is_cached_outlives_a_restart_of_the_daemon_without_a_monitor(self):
        source, shown = self.start_with_large_file(daemon_timeout=3, attr_timeout=0.5)
        self.make_table_cache_warm(shown)
        self.assertEqual(os.stat(shown).st_size, 4 * PIECE)
        self.cluster.pause("mon")
        self.daemon.kill()
        self.daemon.start()
        for _ in range(3):
            self.assertEqual(read_direct(shown, 0, BLOCK), self.expected(source, 0))
        # A mount that tries again and again leaves nothing behind at the daemon.
        time.sleep(3)
        self.assertEqual(self.sessions(), [])
        self.cluster.resume("mon")
        wait_until(lambda: len(self.sessions()) == 1, LONG_S, "the mount attaches again")
        self.assertEqual(read_direct(shown, 3 * PIECE, BLOCK), self.expected(source, 3 * PIECE))

    # -- wrong bytes -------------------------------------------------------------------------------------------------

    def damaged(self, damage, line):
        """Piece 1 of a file is damaged: its range is EIO, with a line in the log; the rest and, repaired, all is right."""
        source, shown = self.start_with_large_file(pieces=3)
        name = next(name for name in self.objects() if name.endswith(".00000001"))
        good = self.get_object(name)
        damage(name, good)
        for _ in range(3):
            with self.assertRaises(OSError) as caught:
                read_direct(shown, PIECE + 5 * BLOCK, BLOCK)
            self.assertEqual(caught.exception.errno, errno.EIO)
        for offset in (0, PIECE - BLOCK, 2 * PIECE, 3 * PIECE - BLOCK):
            self.assertEqual(read_direct(shown, offset, BLOCK), self.expected(source, offset))
        with self.assertRaises(OSError) as caught:
            shown.read_bytes()
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertEqual((shown.parent / "small").read_bytes(), b"small")
        lines = [text for text in self.lines_with(name) if re.search(line, text)]
        self.assertTrue(1 <= len(lines) <= 3, self.daemon_log())
        self.put_object(name, good)
        self.assertEqual(shown.read_bytes(), source.read_bytes())

    def test_a_missing_object_is_eio_for_its_range(self):
        self.damaged(lambda name, good: self.cluster.command("rados", "-p", "data", "rm", name), "it is missing")

    def test_a_short_object_is_eio_for_its_range(self):
        self.damaged(lambda name, good: self.put_object(name, good[:3 * BLOCK + 1]), "it ends before|not those that were")

    def test_a_changed_object_is_eio_for_its_range(self):
        def flip(name, good):
            wrong = bytearray(good)
            wrong[5 * BLOCK + 100] ^= 1
            self.put_object(name, bytes(wrong))
        self.damaged(flip, "not those that were imported")

    def test_zeros_and_another_objects_bytes_are_not_taken_for_content(self):
        source, shown = self.start_with_large_file(pieces=3)
        pieces = [name for name in self.objects() if re.search(r"\.0000000[012]$", name)]
        contents = [self.get_object(name) for name in pieces]
        self.put_object(pieces[0], bytes(PIECE))
        self.put_object(pieces[1], contents[2])
        for offset in (0, PIECE):
            with self.assertRaises(OSError) as caught:
                read_direct(shown, offset, BLOCK)
            self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertEqual(read_direct(shown, 2 * PIECE, BLOCK), self.expected(source, 2 * PIECE))

    def test_damaged_metadata_is_eio_and_named_and_the_daemon_goes_on(self):
        self.make_files(20, 1000)
        self.import_tree()
        (self.local / "file").write_bytes(b"local")
        tables = [name for name in self.objects("meta") if "/m." in name]
        good = {name: self.get_object(name, "meta") for name in tables}
        for name, content in good.items():
            wrong = bytearray(content)
            for page in range(0, len(wrong), 16384):
                wrong[page + 100] ^= 1
            self.put_object(name, bytes(wrong), "meta")
        self.start_daemon()
        self.assertIn("metadata of the data set cannot be read; the log names the object", self.mount_fails())
        named = [line for line in self.daemon_log() if any(name in line for name in tables)]
        self.assertTrue(named and "is damaged" in named[0], self.daemon_log())
        self.assertEqual((self.mount("local").path / "file").read_bytes(), b"local")
        self.run_ctl("volume", "verify", "data", status=EXIT_ERROR)
        for name, content in good.items():
            self.put_object(name, content, "meta")
        path = self.mount_when_possible()
        self.assertEqual((path / "files/3/file-00013").read_bytes(), (self.source / "files/3/file-00013").read_bytes())
        self.unmount_path(path)

    # -- what an administrator got wrong -----------------------------------------------------------------------------

    def refused(self, expected, rados=None):
        """The daemon starts, a mount of "data" says why it cannot be, and so does `cachedctl volumes`."""
        (self.local / "file").write_bytes(b"local")
        self.start_daemon(rados=rados)

        def says_why():
            return expected in self.volume()["trouble"]

        wait_until(says_why, LONG_S, f"cachedctl volumes says {expected}")
        self.assertIn(expected, self.mount_fails())
        self.assertEqual((self.mount("local").path / "file").read_bytes(), b"local")

    def test_a_wrong_key_is_named(self):
        keyring = self.root / "keyring"
        keyring.write_text("[client.admin]\n\tkey = AQAs5AZrJwR/ORAAhCUlA2HTtLsaEvBQMWnVnA==\n")
        self.refused(f"the monitors refuse client.admin with the key in {keyring}", {"keyring": keyring})

    def test_a_missing_pool_is_named(self):
        self.refused("pool `nowhere` does not exist", {"source": f"rados:nowhere/{self.dataset}"})

    def test_a_missing_data_set_is_named_and_shown_once_it_is_imported(self):
        self.write("file", b"at last")
        self.refused(f"there is no data set {self.dataset}")
        self.import_tree()
        path = self.mount_when_possible()
        self.assertEqual((path / "file").read_bytes(), b"at last")
        self.unmount_path(path)

    def test_a_newer_format_is_named(self):
        self.write("file")
        self.import_tree()
        head = bytearray(self.get_object(f"{self.dataset}/head", "meta"))
        head[8] = 9  # FORMAT.md: the version follows the magic
        self.put_object(f"{self.dataset}/head", bytes(head), "meta")
        self.refused("has version 9 of the format and this program knows version 1")
        self.assertIn("version 9", self.run_ctl("volume", "info", "data", status=EXIT_ERROR).stderr)
        self.assertIn("version 9", self.run_ctl("import", self.source, "data", status=EXIT_ERROR).stderr)
