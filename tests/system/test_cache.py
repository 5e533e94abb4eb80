"""The cache: what one mount fetched is a hit for all; one fetch, one copy; right bytes in an arena of any size."""

import hashlib
import mmap
import os
import random
import threading
import time

from harness import SystemTest, drop_from_page_cache, read_direct, regular_files, resident_bytes

EVERY_MODE = "pread,direct,mmap,whole,random,reopen"


class CacheTest(SystemTest):
    def test_every_mode_of_reading_is_right(self):
        mount = self.start_with_tree()
        for mode in ("pread", "direct", "mmap"):
            self.verify_read(mount, threads=4, passes=1, mode=f"{mode},whole,random,reopen")

    def test_two_shards_serve_right_bytes(self):
        self.make_tree()
        self.start_daemon(shards=2)
        mounts = [self.mount(), self.mount()]
        self.verify_read(*mounts, threads=6, passes=2, mode=EVERY_MODE)

    def test_a_second_mount_reads_without_the_origin(self):
        data_bytes = self.make_tree()
        self.settle()
        self.start_daemon()
        cold, warm = self.mount(), self.mount()
        self.verify_read(cold, threads=2, passes=1)
        cold.unmount()  # a mount hands its counts over now and then, and all of them at its end
        before = self.status()
        self.assertGreaterEqual(before["origin"]["read_bytes"], data_bytes)
        self.verify_read(warm, threads=2, passes=1)
        warm.unmount()
        after = self.status()
        self.assertEqual(after["origin"]["read_bytes"], before["origin"]["read_bytes"])
        self.assertEqual(after["origin"]["reads"], before["origin"]["reads"])
        self.assertGreaterEqual(after["clients"]["hit_bytes"] - before["clients"]["hit_bytes"], data_bytes)

    def test_files_read_in_order_are_fetched_before_they_are_asked_for(self):
        data_bytes = self.make_tree(small=600, dirs=3, large=0)
        self.settle()
        self.start_daemon()
        mount = self.mount()
        self.verify_read(mount, threads=1, passes=1, order="listed", mode="pread,whole")
        mount.unmount()
        status = self.status()
        self.assertGreater(status["origin"]["prefetch_bytes"], data_bytes / 2)  # on a busy machine the reader is first at times
        self.assertLess(status["clients"]["lookups"] - status["clients"]["lookup_hits"], 300)  # of 600 files
        self.assertLessEqual(status["origin"]["read_bytes"], data_bytes * 1.01)

    def test_files_read_at_random_are_not_fetched_for_nothing(self):
        self.make_tree(small=600, dirs=3, large=0)
        self.settle()
        self.start_daemon()
        mount = self.mount()
        files = sorted(regular_files(mount.path))
        random.Random(5).shuffle(files)
        read_bytes = 0
        for path in files[:60]:
            with open(path, "rb") as file:
                read_bytes += len(file.read())
        self.assertLess(self.status()["origin"]["prefetch_bytes"], 0.5 * read_bytes)

    def test_eight_cold_mounts_cost_one_fetch_and_one_copy(self):
        data_bytes = self.make_tree(small=300, large=4, large_size="16MiB")
        self.settle()
        self.start_daemon(memory="512MiB")
        mounts = [self.mount() for _ in range(8)]
        # In one order, so that all of them want the same blocks at the same time.
        self.verify_read(*mounts, threads=8, passes=1, order="listed", mode="pread,whole")
        status = self.status()
        self.assertGreaterEqual(status["origin"]["read_bytes"], data_bytes)
        self.assertLessEqual(status["origin"]["read_bytes"], data_bytes * 1.01)
        self.assertLessEqual(status["memory"]["content_bytes"], data_bytes * 1.01)
        self.assertGreaterEqual(status["memory"]["content_bytes"], data_bytes * 0.99)
        self.assertEqual(status["memory"]["evictions"], 0)

    def test_reads_of_an_evicting_arena_are_right(self):
        data_bytes = self.make_tree(small=600, large=6, large_size="32MiB")
        self.start_daemon(memory="64MiB")
        mounts = [self.mount(), self.mount()]
        self.verify_read(*mounts, threads=8, passes=2, mode=EVERY_MODE, max_read="1MiB")
        memory = self.status()["memory"]
        self.assertGreater(data_bytes, 3 * memory["capacity_bytes"])
        self.assertGreater(memory["evictions"], 0)
        self.assertLessEqual(memory["used_bytes"], memory["capacity_bytes"])

    def test_an_arena_of_64_mib_serves_2_gib(self):
        self.make_tree(small=4000, large=14, large_size="128MiB", dirs=40)
        self.start_daemon(memory="64MiB")
        mounts = [self.mount() for _ in range(3)]
        self.verify_read(mounts[0], threads=8, passes=1, mode="pread,whole", max_read="1MiB")
        self.verify_read(*mounts, threads=24, seconds=20, mode=EVERY_MODE, max_read="1MiB")
        memory = self.status()["memory"]
        self.assertLessEqual(memory["capacity_bytes"], 64 << 20)
        self.assertGreater(memory["evictions"], 1000)

    def test_useful_bytes_of_small_files_are_most_of_the_arena(self):
        self.make_tree(small=2000, small_min="99K", small_max="101K", large=0)
        self.settle()
        self.start_daemon(memory="128MiB")
        self.verify_read(self.mount(), threads=4, passes=1)
        memory = self.status()["memory"]
        self.assertGreater(memory["content_bytes"], 0.85 * memory["used_bytes"])
        self.assertGreater(memory["content_bytes"], 0.80 * memory["capacity_bytes"])

    def test_a_scan_does_not_evict_what_is_used_again(self):
        self.make_tree(small=150, large=4, large_size="128MiB")
        self.settle()
        self.start_daemon(memory="128MiB")
        mount = self.mount()
        used_again = sorted(path for path in regular_files(mount.path) if "/large/" not in path)
        hot_bytes = sum(len(read_direct(path)) for path in used_again)
        time.sleep(1.2)  # uses right after the fetch count as one
        before = self.status()["origin"]["read_bytes"]
        scanned_bytes = self.scan(mount, used_again)
        missed_bytes = self.status()["origin"]["read_bytes"] - before - scanned_bytes
        self.assertLess(missed_bytes, 0.2 * hot_bytes)

    def scan(self, mount, used_again):
        """Reads the large files once; between its reads, one after another, the files that are used again."""
        steps = scanned_bytes = 0
        for path in regular_files(mount.path / "large"):
            for offset in range(0, os.path.getsize(path), 1 << 20):
                scanned_bytes += len(read_direct(path, offset))
                for _ in range(2):
                    read_direct(used_again[steps % len(used_again)])
                    steps += 1
        return scanned_bytes

    def test_the_source_leaves_no_second_copy_in_the_page_cache(self):
        data_bytes = self.make_tree(small=200, large=2, large_size="32MiB")
        for path in regular_files(self.source):
            drop_from_page_cache(path)
        self.start_daemon()
        self.verify_read(self.mount(), threads=4, passes=1)
        resident = sum(resident_bytes(path) for path in regular_files(self.source))
        self.assertLess(resident, 0.01 * data_bytes)

    def test_shared_read_only_mappings_work(self):
        mount = self.start_with_tree(small=0, large=1, large_size="3MiB")
        path = mount.path / "large/l000"
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as pages:
            expected = (self.source / "large/l000").read_bytes()
            self.assertEqual(hashlib.sha256(pages).digest(), hashlib.sha256(expected).digest())
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as pages:
            self.assertEqual(pages[-1000:], expected[-1000:])

    def test_random_page_faults_like_an_lmdbs_are_right(self):
        self.make_tree(small=0, large=1, large_size="96MiB")
        self.settle()
        self.start_daemon()
        mount = self.mount()
        with open(mount.path / "large/l000", "rb") as seen, open(self.source / "large/l000", "rb") as expected:
            with mmap.mmap(seen.fileno(), 0, prot=mmap.PROT_READ) as pages:
                pages.madvise(mmap.MADV_RANDOM)
                dice = random.Random(7)
                for _ in range(3000):
                    offset = dice.randrange(0, len(pages) // 4096) * 4096
                    self.assertEqual(pages[offset:offset + 4096], os.pread(expected.fileno(), 4096, offset))
        # Random reads of 4 KiB must not fetch much more than a block each.
        self.assertLessEqual(self.status()["origin"]["read_bytes"], 1.01 * (96 << 20))

    def test_readers_of_one_cold_block_cost_one_fetch(self):
        self.make_tree(small=0, large=1, large_size="128K")
        self.settle()
        self.start_daemon()
        mount = self.mount()
        results = []
        threads = [threading.Thread(target=lambda: results.append(read_direct(mount.path / "large/l000")))
                   for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({len(result) for result in results}, {128 << 10})
        self.assertEqual(len(set(results)), 1)
        self.assertEqual(self.status()["origin"]["read_bytes"], 128 << 10)

    def test_two_volumes_are_kept_apart(self):
        self.make_tree(small=20, large=0)
        other = self.root / "other"
        other.mkdir()
        (other / "file").write_bytes(b"other volume")
        self.start_daemon(volumes={"data": self.source, "other": other})
        first, second = self.mount("data"), self.mount("other")
        self.verify_read(first, passes=1)
        self.assertEqual(os.listdir(second.path), ["file"])
        self.assertEqual((second.path / "file").read_bytes(), b"other volume")
        self.assertEqual(sorted(volume["name"] for volume in self.status()["volumes"]), ["data", "other"])
