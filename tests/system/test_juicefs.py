"""JuiceFS volumes that JuiceFS itself wrote, in a real Redis, with their blocks below a directory."""

import base64
import errno
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import threading
import time

from ceph_cluster import CephCluster
from harness import SystemTest, drop_from_page_cache, read_direct, regular_files, stop_process, wait_until
from redis_server import RedisServer, extract, have_redis

DATA = pathlib.Path(__file__).resolve().parents[1] / "data" / "juicefs"
DATABASES = {"plain": 1, "packed": 2, "zstd": 3}
CHUNK = 64 << 20
READ_BYTES = 1 << 20
SEEN_AT_ONCE_S = 5  # far less than the attribute timeout that such tests mount with


def manifest(volume):
    text = subprocess.run(["zstd", "-dcq", str(DATA / f"{volume}.manifest.jsonl.zst")], check=True,
                          capture_output=True).stdout
    return {base64.b64decode(entry["path_b64"]): entry for entry in map(json.loads, text.splitlines())}


def digest_of(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def is_all_zeros(path):
    zeros = bytes(READ_BYTES)
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            if piece != zeros[:len(piece)]:
                return False
    return True


def attributes_bytes(kind, mode, length, mtime_ns, parent=1, nlink=1):
    """`i<ino>` as JuiceFS writes it."""
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    time_fields = struct.pack(">qI", seconds, nanoseconds) * 3
    return struct.pack(">BHII", 0, kind << 12 | mode, 0, 0) + time_fields + struct.pack(">IQIQ", nlink, length, 0, parent) + b"\0"


def bytes_now(file):
    """What a path or a descriptor shows; nothing from a read that the change meets half-way (README, "What applications see")."""
    try:
        if isinstance(file, int):
            return os.pread(file, 1 << 20, 0)
        return file.read_bytes()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return None


class JuicefsVolumes(SystemTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not have_redis():
            raise AssertionError("redis-server is missing; packages.list names its package")

    def setUp(self):
        super().setUp()
        self.redis = RedisServer(self.root / "redis", self.start_process, DATA / "juicefs.rdb")
        self.redis.start()
        self.addCleanup(lambda: (self.root / "redis" / "redis.sock").unlink(missing_ok=True))
        extract(DATA / "objects.tar.zst", self.root)
        for volume, database in DATABASES.items():
            client = self.redis.client(database)
            setting = json.loads(client("GET", "setting"))
            setting |= {"Storage": "file", "Bucket": f"{self.root}/objects/fx-{volume}/"}
            client("SET", "setting", json.dumps(setting))
            client.close()

    def client(self, volume):
        client = self.redis.client(DATABASES[volume])
        self.addCleanup(client.close)
        return client

    def config_text(self, name="cached", extra="", sections=""):
        """`extra`: more keys of each volume; `sections`: more of the file."""
        text = (f'[daemon]\nsocket = "{self.root}/{name}.sock"\ncontrol_socket = "{self.root}/{name}.ctl"\n'
                f'state_dir = "{self.root}/{name}.state"\ngroup = ""\nshards = 2\n'
                f'[memory]\nsize = "{self.memory}"\n')
        for volume, database in DATABASES.items():
            text += (f'[[volume]]\nname = "{volume}"\nsource = "juicefs:unix://{self.redis.socket}?db={database}"\n'
                     f"metadata_timeout_ms = 3000\n{extra}")
        return text + sections

    def daemon_log(self):
        return "".join(log.read_text(errors="replace") for log in self.logs if log.name.endswith("-cached"))

    # -- the three volumes -------------------------------------------------------------------------------------------

    def check_entry(self, path, entry):
        info = os.lstat(path)
        kind = stat.S_IFMT(info.st_mode)
        shown = {"mode": oct(info.st_mode), "uid": info.st_uid, "gid": info.st_gid, "nlink": info.st_nlink,
                 "ino": info.st_ino, "mtime_ns": info.st_mtime_ns, "ctime_ns": info.st_ctime_ns}
        if entry["size"] is not None:
            shown["size"] = info.st_size
        if "rdev" in entry:
            shown["rdev"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
        if kind == stat.S_IFLNK:
            shown["target"] = os.readlink(os.fsdecode(path))
        names = os.listxattr(path, follow_symlinks=False) if kind in (stat.S_IFREG, stat.S_IFDIR) else []
        xattrs = {name: base64.b64encode(os.getxattr(path, name)).decode() for name in names}
        self.assertEqual(xattrs, entry.get("xattrs_b64", {}), path)
        self.assertEqual(shown, {key: entry[key] for key in shown}, path)
        if entry.get("sha256") == "all zeros":
            self.assertTrue(is_all_zeros(path), path)
        elif "sha256" in entry:
            self.assertEqual(digest_of(path), entry["sha256"], path)

    extra = ""  # keys of each volume

    def check_volume(self, volume):
        self.start_daemon(extra=self.extra)
        root = os.fsencode(self.mount(volume).path)
        expected = manifest(volume)
        found = {os.path.relpath(os.path.join(directory, name), root)
                 for directory, folders, files in os.walk(root) for name in folders + files}
        self.assertEqual(found, set(expected) - {b"", b"."})
        for path, entry in expected.items():
            self.check_entry(os.path.join(root, path) if path else root, entry)


class JuicefsTest(JuicefsVolumes):
    def test_a_plain_volume_is_shown_as_juicefs_shows_it(self):
        self.check_volume("plain")

    def test_an_lz4_volume_with_hash_prefix_is_shown_as_juicefs_shows_it(self):
        self.check_volume("packed")

    def test_a_zstd_volume_is_shown_as_juicefs_shows_it(self):
        self.check_volume("zstd")

    # -- reading -----------------------------------------------------------------------------------------------------

    def make_file(self, client, volume, name, length, slices, ino, mtime_ns=None):
        """A file in the root as JuiceFS writes it. `slices`: (chunk, position, id, size, offset, length)."""
        client("SET", f"i{ino}", attributes_bytes(1, 0o644, length, mtime_ns or time.time_ns()))
        client("DEL", *(f"c{ino}_{chunk}" for chunk in range(4)))
        for chunk, *record in slices:
            client("RPUSH", f"c{ino}_{chunk}", struct.pack(">IQIII", *record))
        client("HSET", "d1", name, struct.pack(">BQ", 1, ino))

    def make_block(self, volume, slice_id, index, content):
        path = (self.root / "objects" / f"fx-{volume}" / volume / "chunks" / str(slice_id // 10**6) / str(slice_id // 1000)
                / f"{slice_id}_{index}_{len(content)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def test_a_warm_tree_is_read_with_redis_and_the_blocks_gone(self):
        self.start_daemon(extra="tracking = false\n")
        mount = self.mount("plain", attr_timeout=3600)
        wanted = {path: entry for path, entry in manifest("plain").items()
                  if "sha256" in entry and entry["size"] < 100 << 20}
        for path in wanted:
            digest_of(mount.path / os.fsdecode(path))
        shutil.rmtree(self.root / "objects")
        self.redis.stop()
        for path, entry in wanted.items():
            full = mount.path / os.fsdecode(path)
            drop_from_page_cache(full)
            self.assertEqual(digest_of(full), entry["sha256"], path)

    def test_warm_brings_files_of_many_slices_and_of_holes_and_evict_takes_them_away(self):
        self.start_daemon(extra="tracking = false\n")
        mount = self.mount("plain", attr_timeout=3600)
        wanted = {path: entry for path, entry in manifest("plain").items() if "sha256" in entry}
        report = self.job("warm", "plain")
        self.assertEqual((report["files"], report["errors"]), (len(wanted), 0))
        self.assertEqual(report["bytes"], sum(os.lstat(mount.path / os.fsdecode(path)).st_size for path in wanted))
        self.assertEqual(self.job("warm", "plain")["fetched_bytes"], 0)
        self.assertEqual(self.job("warm", "plain:/patched", "--verify")["errors"], 0)
        shutil.rmtree(self.root / "objects")
        for path, entry in wanted.items():
            if entry["sha256"] != "all zeros":
                self.assertEqual(digest_of(mount.path / os.fsdecode(path)), entry["sha256"], path)
        self.job("evict", "plain:/patched")
        drop_from_page_cache(mount.path / "patched")
        with self.assertRaises(OSError):
            digest_of(mount.path / "patched")
        self.job("evict", "plain")
        self.assertEqual(self.status()["memory"]["content_bytes"], 0)

    def test_du_tells_what_is_cached_of_a_volume_and_of_a_directory_in_it(self):
        self.start_daemon(sections='[[dataset]]\nname = "speech"\nvolume = "plain"\ndirectory = "/speech"\n')
        mount = self.mount("plain")
        speech = [entry["size"] for path, entry in manifest("plain").items()
                  if path.startswith(b"speech/") and "sha256" in entry]
        for path in regular_files(mount.path / "speech"):
            digest_of(path)
        digest_of(mount.path / "text.log")
        wanted = {"memory_bytes": sum(speech), "memory_files": len(speech)}
        self.assertEqual(wanted, {key: self.data_sets()["speech"][key] for key in wanted})
        self.assertGreaterEqual(self.data_sets()["plain"]["memory_bytes"], sum(speech) + 1_080_000)
        wait_until(lambda: self.data_sets()["plain"]["counted"], SEEN_AT_ONCE_S, "the volume is counted")
        self.assertGreater(self.data_sets()["plain"]["bytes"], 100 << 20)
        wait_until(lambda: self.data_sets()["speech"]["counted"], SEEN_AT_ONCE_S, "the directory is counted")
        self.assertEqual((self.data_sets()["speech"]["bytes"], self.data_sets()["speech"]["files"]), (sum(speech), len(speech)))
        self.assertEqual(self.job("evict", "speech")["evicted_memory_bytes"], sum(speech))
        self.assertEqual(self.data_sets()["speech"]["memory_bytes"], 0)

    def test_files_read_in_order_are_fetched_before_they_are_asked_for(self):
        self.start_daemon()
        mount = self.mount("plain")
        speech = {path: entry for path, entry in manifest("plain").items()
                  if path.startswith(b"speech/") and "sha256" in entry}
        for path, entry in sorted(speech.items()):
            self.assertEqual(digest_of(mount.path / os.fsdecode(path)), entry["sha256"], path)
        read_bytes = sum(entry["size"] for entry in speech.values())
        self.assertGreater(self.status()["origin"]["prefetch_bytes"], read_bytes / 3)

    def test_reads_that_cross_slices_holes_and_chunks_are_right_at_any_offset(self):
        client = self.client("plain")
        first, second = os.urandom(5 << 20), os.urandom(3 << 20)
        for slice_id, content in ((900_001, first), (900_002, second)):
            for index in range(0, len(content), 4 << 20):
                self.make_block("plain", slice_id, index >> 22, content[index:index + (4 << 20)])
        length = CHUNK + (4 << 20)
        self.make_file(client, "plain", "crossing", length, [
            (0, CHUNK - (6 << 20), 900_001, len(first), 0, len(first)),
            (0, CHUNK - (2 << 20) - 77, 900_002, len(second), 100, 1 << 20),
            (1, 4096, 900_002, len(second), 1 << 20, 2 << 20)], ino=990_001)
        expected = bytearray(length - CHUNK + (8 << 20))  # from 8 MiB before the border on
        expected[2 << 20:7 << 20] = first
        expected[(6 << 20) - 77:(7 << 20) - 77] = second[100:100 + (1 << 20)]
        expected[(8 << 20) + 4096:(10 << 20) + 4096] = second[1 << 20:3 << 20]
        self.start_daemon()
        path = self.mount("plain").path / "crossing"
        with open(path, "rb", buffering=0) as file:
            for offset in range(0, len(expected), 999_983):
                position = CHUNK - (8 << 20) + offset
                self.assertEqual(os.pread(file.fileno(), 700_001, position), expected[offset:offset + 700_001], offset)
                drop_from_page_cache(path)

    def test_a_compressed_block_is_decompressed_once_and_all_of_it_is_kept(self):
        self.start_daemon()
        mount = self.mount("zstd", attr_timeout=3600)
        path, entry = max(((path, entry) for path, entry in manifest("zstd").items()
                           if "sha256" in entry and entry["sha256"] != "all zeros" and entry["size"] < 8 << 20),
                          key=lambda item: item[1]["size"])
        full = mount.path / os.fsdecode(path)
        read_direct(full, 0, 4096)  # one small read brings in whole blocks of 1 MiB
        time.sleep(0.5)
        shutil.rmtree(self.root / "objects")
        self.assertEqual(len(read_direct(full, 0, min(entry["size"], 1 << 20))), min(entry["size"], 1 << 20))

    def test_a_subdirectory_is_shown_as_the_root(self):
        self.start_daemon()
        mount = self.mount("plain", subdir="links")
        whole = self.mount("plain")
        self.assertEqual(sorted(os.listdir(mount.path)), sorted(os.listdir(whole.path / "links")))
        for name in os.listdir(mount.path):
            self.assertEqual(os.lstat(mount.path / name).st_ino, os.lstat(whole.path / "links" / name).st_ino)
        line = self.run_to_failure(self.mount_command("plain", self.root / "mnt0" / "x", "-f", subdir="no/such"))[1]
        self.assertIn("cached-mount", line)

    def test_the_kernel_enforces_acls(self):
        client = self.client("plain")
        self.make_block("plain", 900_050, 0, b"for one user")
        self.make_file(client, "plain", "for-one", 12, [(0, 0, 900_050, 12, 0, 12)], ino=990_060)
        client("HSET", "acl", "77", struct.pack(">HHHHIIHI", 6, 0, 4, 0, 1, 1234, 4, 0))
        plain = attributes_bytes(1, 0o640, 12, time.time_ns())[:-1]  # the group's bits are the mask
        client("SET", "i990060", plain + struct.pack(">II", 77, 0) + b"\0")
        self.start_daemon()
        path = self.mount("plain").path / "for-one"
        self.assertEqual(self.as_user(1234, 1234, path.read_bytes), 0)
        self.assertEqual(self.as_user(1235, 1235, path.read_bytes), errno.EACCES)

    # -- freshness ---------------------------------------------------------------------------------------------------

    def test_changes_are_seen_within_the_attribute_timeout_without_notices(self):
        client = self.client("plain")
        self.make_block("plain", 900_010, 0, b"old!" * 1000)
        self.make_block("plain", 900_011, 0, b"newer" * 1000)
        self.make_file(client, "plain", "changing", 4000, [(0, 0, 900_010, 4000, 0, 4000)], ino=990_010)
        self.start_daemon(extra="tracking = false\n")
        root = self.mount("plain", attr_timeout=1).path
        self.assertEqual((root / "changing").read_bytes(), b"old!" * 1000)
        self.assertFalse((root / "later").exists())
        self.make_file(client, "plain", "changing", 5000, [(0, 0, 900_011, 5000, 0, 5000)], ino=990_010)
        wait_until(lambda: bytes_now(root / "changing") == b"newer" * 1000, SEEN_AT_ONCE_S, "new content is seen")
        client("HSET", "d1", "later", client("HGET", "d1", "changing"))
        wait_until((root / "later").exists, SEEN_AT_ONCE_S, "a new name is seen")
        client("HDEL", "d1", "changing")
        wait_until(lambda: not (root / "changing").exists(), SEEN_AT_ONCE_S, "a removed name is gone")
        self.assertEqual((root / "later").read_bytes(), b"newer" * 1000)

    def test_notices_take_records_out_of_the_shared_table(self):
        # The kernel is made to ask each time; the name table alone would answer for an hour.
        client = self.client("plain")
        self.start_daemon()
        mount = self.mount("plain", attr_timeout=3600)
        wait_until(lambda: client("CLIENT", "LIST", "TYPE", "pubsub"), SEEN_AT_ONCE_S, "notices are told")
        self.assertFalse((mount.path / "soon").exists())
        client("HSET", "d1", "soon", client("HGET", "d1", "appended"))
        second = self.mount("plain", attr_timeout=3600)  # a kernel of its own memory, the same table
        wait_until((second.path / "soon").exists, SEEN_AT_ONCE_S, "the table forgot that the name is absent")

    def test_notices_reach_the_kernel(self):
        # Nothing here would be asked for again for an hour.
        client = self.client("plain")
        self.make_block("plain", 900_010, 0, b"old!" * 1000)
        self.make_block("plain", 900_011, 0, b"newer" * 1000)
        self.make_file(client, "plain", "changing", 4000, [(0, 0, 900_010, 4000, 0, 4000)], ino=990_010)
        self.start_daemon()
        wait_until(lambda: client("CLIENT", "LIST", "TYPE", "pubsub"), SEEN_AT_ONCE_S, "notices are told")
        root = self.mount("plain", attr_timeout=3600).path
        self.assertEqual((root / "changing").read_bytes(), b"old!" * 1000)
        self.assertFalse((root / "later").exists())
        with open(root / "changing", "rb", buffering=0) as held:
            self.make_file(client, "plain", "changing", 5000, [(0, 0, 900_011, 5000, 0, 5000)], ino=990_010)
            wait_until(lambda: os.stat(root / "changing").st_size == 5000, SEEN_AT_ONCE_S, "a new size is seen")
            wait_until(lambda: bytes_now(root / "changing") == b"newer" * 1000, SEEN_AT_ONCE_S, "new content is seen")
            wait_until(lambda: bytes_now(held.fileno()) == b"newer" * 1000, SEEN_AT_ONCE_S, "by an open file too")
        client("SET", "i990010", attributes_bytes(1, 0o644, 5000, time.time_ns(), nlink=2))
        client("HSET", "d1", "later", client("HGET", "d1", "changing"))
        wait_until((root / "later").exists, SEEN_AT_ONCE_S, "a new name is seen")
        client("HDEL", "d1", "changing")
        wait_until(lambda: not (root / "changing").exists(), SEEN_AT_ONCE_S, "a removed name is gone")
        client("HSET", "d1", "renamed", client("HGET", "d1", "later"))
        client("HDEL", "d1", "later")
        wait_until(lambda: not (root / "later").exists(), SEEN_AT_ONCE_S, "the old name of a rename is gone")
        self.assertEqual((root / "renamed").read_bytes(), b"newer" * 1000)

    def test_the_kernel_forgets_all_when_the_daemon_or_redis_was_away(self):
        self.start_daemon()
        root = self.mount("plain", attr_timeout=3600).path
        for number, restart in enumerate((self.restart_redis, self.restart_daemon)):
            self.assertFalse((root / f"soon{number}").exists())
            self.assertTrue((root / "appended").exists())
            restart(lambda: self.client("plain")("HSET", "d1", f"soon{number}", self.client("plain")("HGET", "d1", "appended")))
            wait_until((root / f"soon{number}").exists, SEEN_AT_ONCE_S, "a name that came meanwhile is seen")

    def restart_redis(self, meanwhile):
        self.redis.stop()
        self.redis.start()
        meanwhile()

    def restart_daemon(self, meanwhile):
        self.daemon.kill()
        meanwhile()
        self.daemon.start()

    def test_a_block_that_compaction_took_away_is_found_at_its_new_place(self):
        client = self.client("plain")
        content = os.urandom(300_000)
        old = [self.make_block("plain", 900_020 + i, 0, content[i * 100_000:(i + 1) * 100_000]) for i in range(3)]
        slices = [(0, i * 100_000, 900_020 + i, 100_000, 0, 100_000) for i in range(3)]
        now = time.time_ns()
        self.make_file(client, "plain", "compacted", 300_000, slices, ino=990_020, mtime_ns=now)
        self.start_daemon(extra="tracking = false\n")
        path = self.mount("plain", attr_timeout=3600).path / "compacted"
        self.assertEqual(read_direct(path, 0, 4096), content[:4096])  # the map is known to the mount now
        self.make_block("plain", 900_030, 0, content)
        self.make_file(client, "plain", "compacted", 300_000, [(0, 0, 900_030, 300_000, 0, 300_000)], ino=990_020,
                       mtime_ns=now)
        for block in old:
            block.unlink()
        self.assertEqual(read_direct(path, 200_704, 8192), content[200_704:208_896])
        self.assertEqual(path.read_bytes(), content)

    def test_a_block_that_is_lost_is_an_error_with_one_line_in_the_log(self):
        client = self.client("plain")
        self.make_file(client, "plain", "lost", 1000, [(0, 0, 900_040, 1000, 0, 1000)], ino=990_040)
        self.start_daemon()
        path = self.mount("plain").path / "lost"
        for _ in range(3):
            self.assert_errno(errno.EIO, path.read_bytes)
        self.assertEqual(self.daemon_log().count("still needs it"), 1)

    # -- trouble -----------------------------------------------------------------------------------------------------

    def test_a_redis_that_is_away_delays_or_fails_what_needs_it_and_nothing_else(self):
        self.start_daemon()
        mount = self.mount("plain", attr_timeout=3600)
        content = (mount.path / "appended").read_bytes()
        stop_process(self.redis.process.pid)
        self.addCleanup(lambda: os.kill(self.redis.process.pid, signal.SIGCONT))
        self.assertEqual((mount.path / "appended").read_bytes(), content)
        begin = time.monotonic()
        self.assert_errno(errno.EIO, os.stat, mount.path / "never-asked-for")
        self.assertLess(time.monotonic() - begin, 10)
        timer = threading.Timer(1, lambda: os.kill(self.redis.process.pid, signal.SIGCONT))
        timer.start()
        self.assert_errno(errno.ENOENT, os.stat, mount.path / "never-asked-for-either")
        timer.join()

    def test_a_redis_that_was_restarted_is_used_again(self):
        self.start_daemon()
        mount = self.mount("plain", attr_timeout=0)
        self.assertTrue((mount.path / "appended").exists())
        self.redis.stop()
        self.assert_errno(errno.EIO, os.stat, mount.path / "appended")
        self.redis.start()
        wait_until((mount.path / "appended").exists, 30, "Redis is asked again")

    def test_nothing_is_served_after_its_time_while_notices_are_missing(self):
        client = self.client("plain")
        self.start_daemon()
        first = self.mount("plain", attr_timeout=3600)
        self.assertFalse((first.path / "soon").exists())
        self.redis.stop()
        self.redis.start()
        client = self.client("plain")
        client("HSET", "d1", "soon", client("HGET", "d1", "appended"))
        second = self.mount("plain", attr_timeout=3600)
        wait_until((second.path / "soon").exists, SEEN_AT_ONCE_S, "what was known before the restart is asked again")

    def test_damaged_metadata_is_eio_and_a_line_in_the_log(self):
        client = self.client("plain")
        entry = client("HGET", "d1", "appended")
        client("SET", "i990050", b"short")
        client("HSET", "d1", "short-attributes", struct.pack(">BQ", 1, 990_050))
        client("HSET", "d1", "short-entry", entry[:5])
        client("HSET", "d1", "no-inode", struct.pack(">BQ", 1, 990_051))
        client("SET", "i990052", attributes_bytes(2, 0o755, 4096, time.time_ns(), parent=990_053, nlink=2))
        client("HSET", "d1", "loop", struct.pack(">BQ", 2, 990_052))
        self.make_file(client, "plain", "long-slice", 1000, [(0, CHUNK - 10, 5, 1000, 0, 1000)], ino=990_054)
        self.start_daemon()
        root = self.mount("plain").path
        for name in ("short-attributes", "short-entry", "no-inode", "loop"):
            self.assert_errno(errno.EIO, os.stat, root / name)
        self.assert_errno(errno.EIO, (root / "long-slice").read_bytes)
        self.assertIn(b"appended", os.listdir(os.fsencode(root)))
        self.assertTrue((root / "appended").read_bytes())
        for text in ("inode 990050", "inode 990051", "inode 990052", "inode 990054"):
            self.assertIn(text, self.daemon_log())

    def check_refusal(self, changes, words):
        client = self.client("plain")
        setting = json.loads(client("GET", "setting")) | changes
        client("SET", "setting", json.dumps(setting))
        self.start_daemon()
        line = self.run_to_failure(self.mount_command("plain", self.root, "-f"))[1]
        self.assertIn("plain", line)
        said = [text for text in self.daemon_log().splitlines() if words in text and "refused a client" not in text]
        self.assertEqual(len(said), 1, self.daemon_log())
        self.assertNotIn(setting["SecretKey"], self.daemon_log())

    def test_an_encrypted_volume_is_refused_in_one_line(self):
        self.check_refusal({"EncryptKey": "-----BEGIN ENCRYPTED PRIVATE KEY-----"}, "encrypted")

    def test_a_newer_metadata_version_is_refused_in_one_line(self):
        self.check_refusal({"MetaVersion": 2}, "version 2")

    def test_another_store_is_refused_in_one_line(self):
        self.check_refusal({"Storage": "s3"}, "\"s3\"")

    def test_a_password_is_used_and_shown_nowhere(self):
        secret = "correct-horse-battery"
        admin = self.client("plain")
        admin("CONFIG", "SET", "requirepass", secret)
        password = self.root / "password"
        password.write_text(secret + "\n")
        self.start_daemon(extra=f'password_file = "{password}"\n')
        self.assertTrue((self.mount("plain").path / "appended").exists())
        shown = subprocess.run([self.program("cachedctl"), "config", "show", str(self.daemon.config)],
                               capture_output=True, text=True, check=True).stdout
        for text in (shown, self.daemon_log(), self.daemon.control("volumes", "--json").stdout):
            self.assertNotIn(secret, text)


class JuicefsInCephTest(JuicefsVolumes):
    """The same volume with its blocks where JuiceFS put them: objects of a RADOS pool."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = CephCluster(osds=1, pools=("fx-zstd",))
        cls.addClassCleanup(cls.cluster.stop)

    def test_a_volume_in_ceph_is_shown_as_juicefs_shows_it(self):
        blocks = self.root / "objects" / "fx-zstd"
        for path in regular_files(blocks):
            self.cluster.command("rados", "-p", "fx-zstd", "put", os.path.relpath(path, blocks), path)
        shutil.rmtree(blocks)
        client = self.client("zstd")
        setting = json.loads(client("GET", "setting")) | {"Storage": "ceph", "Bucket": "ceph://fx-zstd"}
        client("SET", "setting", json.dumps(setting))
        self.extra = f'ceph_conf = "{self.cluster.conf_file}"\nkeyring = "{self.cluster.keyring}"\n'
        self.check_volume("zstd")
