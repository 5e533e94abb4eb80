"""The SSD tier through real mounts: device files by O_DIRECT, restarts, kills, and devices that fail under readers."""

import ctypes
import fcntl
import json
import mmap
import os
import signal
import subprocess
import time

from harness import SystemTest, wait_until

MIB = 1 << 20
SLOWEST_READ_US = 10_000_000
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)


class SsdBase(SystemTest):
    memory = "64MiB"
    tree = {"small": 200, "large": 3, "large_size": "48MiB"}

    def device_file(self, number=0):
        return self.root / f"ssd{number}"

    def start(self, devices=(("ssd0", "1GiB"),), **config):
        """A tree larger than the memory, and a daemon with SSDs in front of it. Returns the tree's bytes."""
        total = self.make_tree(**self.tree)
        self.settle()
        self.start_daemon(devices=[(self.root / name, size) for name, size in devices], **config)
        self.wait_for_devices()
        return total

    def live_bytes(self):
        return sum(device["live_bytes"] for device in self.devices())

    def fill(self, mount, total):
        """Reads everything until the SSDs have it."""
        for _ in range(30):  # what a pass brings faster than it can be written waits for the next one
            self.verify_read(mount, passes=1, mode="direct,whole", threads=2)
            time.sleep(0.3)
            if self.live_bytes() >= 0.985 * total:
                return
        self.assertGreaterEqual(self.live_bytes(), 0.985 * total, "the SSDs did not take everything in")

    def read_without_origin(self, mount, total, share=0.02, **options):
        """A pass that the SSDs and memory serve: the origin sends next to nothing."""
        before = self.status()["origin"]["read_bytes"]
        self.verify_read(mount, **({"passes": 1, "mode": "direct,whole"} | options))
        self.assertLess(self.status()["origin"]["read_bytes"] - before, share * total)


class SsdTest(SsdBase):
    def test_what_left_memory_comes_back_from_the_ssd(self):
        total = self.start()
        mount = self.mount()
        self.fill(mount, total)
        self.read_without_origin(mount, total)
        self.read_without_origin(mount, total, mode="pread,whole")
        self.read_without_origin(mount, total, mode="mmap,whole")
        self.assertGreater(self.status()["ssd"]["hits"], 0)

    def test_the_cache_is_warm_after_kill_9(self):
        total = self.start()
        mount = self.mount()
        self.fill(mount, total)
        for end in (self.daemon.kill, self.daemon.terminate):
            end()
            self.daemon.start()
            self.wait_for_devices()
            self.assertGreaterEqual(self.live_bytes(), 0.98 * total)
            self.read_without_origin(mount, total)
            self.assertEqual(self.devices()[0]["mismatches"], 0)

    def test_a_small_random_read_moves_one_chunk(self):
        total = self.start()
        mount = self.mount()
        self.fill(mount, total)
        self.daemon.kill()  # memory starts empty
        self.daemon.start()
        self.wait_for_devices()
        before = self.devices()[0]
        descriptor = os.open(mount.path / "large/l000", os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 4096) as buffer:
                for block in range(0, 384, 7):  # apart, so that nobody reads ahead
                    os.preadv(descriptor, [buffer], block * 128 * 1024 + 20 * 1024)
        finally:
            os.close(descriptor)
        after = self.devices()[0]
        reads = after["reads"] - before["reads"]
        self.assertGreater(reads, 40)
        self.assertLessEqual((after["read_bytes"] - before["read_bytes"]) / reads, 16 * 1024)

    def test_readers_survive_kills_with_ssds_beneath(self):
        self.start(devices=(("ssd0", "192MiB"), ("ssd1", "96MiB")), shards=2)  # smaller than the data: evictions
        mounts = [self.mount(), self.mount()]
        readers = self.start_verify("read", mounts[0].path, mounts[1].path, "--manifest", self.manifest, "--threads", 4,
                                    "--seconds", 3600, "--mode", "pread,direct,mmap,whole,random,reopen")
        for turn in range(8):
            time.sleep(1.0)
            (self.daemon.terminate if turn % 4 == 3 else self.daemon.kill)()
            time.sleep(0.2)
            self.daemon.start()
        self.wait_for_devices()
        time.sleep(1)
        readers.send_signal(signal.SIGTERM)
        report = self.finish_verify(readers)
        self.assertEqual((report["errors"], report["tolerated"]), (0, {}))
        for mode, latency in report["latency"].items():
            self.assertLess(latency["max_us"], SLOWEST_READ_US, mode)
        for device in self.devices():
            self.assertEqual((device["mismatches"], device["read_errors"]), (0, 0), device)

    def test_changed_files_are_seen_over_the_ssd(self):
        self.make_tree(small=60, large=2, large_size="16MiB")
        self.start_daemon(devices=[(self.device_file(), "512MiB")], settle_ms=100)
        self.wait_for_devices()
        mount = self.mount(attr_timeout=1)
        self.verify("run", self.source, mount.path, "--manifest", self.manifest, "--seconds", 12, "--staleness-ms", 1250,
                    "--changers", 2, "--threads", 3, "--allow-short")

    def test_a_device_is_drained_and_used_again(self):
        total = self.start(devices=(("ssd0", "512MiB"), ("ssd1", "512MiB")))
        mount = self.mount()
        self.fill(mount, total)
        path = str(self.device_file(0))
        self.assertEqual(self.daemon.control("drain", path).returncode, 0)
        wait_until(lambda: self.devices()[0]["state"] == "drained", 20, "the device is drained")
        self.assertEqual(self.devices()[0]["entries"], 0)
        self.verify_read(mount, passes=1, mode="direct,whole")
        self.assertEqual(self.daemon.control("undrain", path).returncode, 0)
        wait_until(lambda: self.devices()[0]["state"] == "healthy", 20, "the device is in use again")
        self.assertEqual(self.daemon.control("drain", "/nowhere").returncode, 1)

    def test_a_device_with_foreign_content_is_refused(self):
        file = self.device_file()
        with open(file, "wb") as device:
            device.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(file)], check=True)
        self.make_tree(small=20, large=0)
        self.start_daemon(devices=[(file, None)])
        wait_until(lambda: self.devices()[0]["state"] == "refused", 20, "the device is refused")
        self.assertIn("ext4", self.devices()[0]["reason"])
        self.verify_read(self.mount(), passes=1)  # the daemon goes on without it
        self.daemon.terminate()
        check = subprocess.run(["e2fsck", "-n", str(file)], capture_output=True, check=False)
        self.assertEqual(check.returncode, 0, "the file system was touched")
        cachedctl = self.program("cachedctl")
        self.assertEqual(subprocess.run([cachedctl, "device", "init", str(file)], check=False,
                                        capture_output=True).returncode, 1)
        subprocess.run([cachedctl, "device", "init", "--force", str(file)], check=True, capture_output=True)
        self.daemon.start()
        self.wait_for_devices()

    def test_inspect_shows_what_a_device_holds(self):
        total = self.start()
        self.fill(self.mount(), total)
        shown = subprocess.run([self.program("cachedctl"), "device", "inspect", "--json", str(self.device_file())],
                               check=True, capture_output=True, text=True)
        report = json.loads(shown.stdout)
        self.assertIn("segments", report)


class SsdFailureTest(SsdBase):
    """Devices that really fail, under readers who must not notice."""

    def setUp(self):
        super().setUp()
        self.loop = None

    def tearDown(self):
        if self.loop is not None:
            subprocess.run(["losetup", "-d", self.loop], check=False)

    def make_loop(self, size):
        backing = self.root / "backing"
        with open(backing, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        made = subprocess.run(["losetup", "--direct-io=on", "-f", "--show", str(backing)], capture_output=True, text=True,
                              check=False)
        if made.returncode != 0:
            self.skipTest(f"no loop device: {made.stderr.strip()}")
        self.loop = made.stdout.strip()
        return backing

    def run_while_it_fails(self, mount, fail, seconds=5):
        readers = self.start_verify("read", mount.path, "--manifest", self.manifest, "--threads", 3, "--seconds", 3600,
                                    "--mode", "pread,direct,whole,random")
        time.sleep(1)
        fail()
        time.sleep(seconds)
        readers.send_signal(signal.SIGTERM)
        report = self.finish_verify(readers)
        self.assertEqual((report["errors"], report["tolerated"]), (0, {}))
        self.assertGreater(report["reads"], 100)

    def test_a_loop_device_that_loses_its_end(self):
        backing = self.make_loop(512 * MIB)
        total = self.make_tree(**self.tree)
        self.settle()
        self.start_daemon(devices=[(self.loop, None)])
        self.wait_for_devices()
        mount = self.mount()
        self.fill(mount, total)
        self.run_while_it_fails(mount, lambda: os.truncate(backing, 2 * MIB))
        self.assertNotEqual(self.devices()[0]["state"], "healthy")

    def test_a_file_system_that_shuts_down_under_a_device_file(self):
        self.make_loop(768 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.loop], check=True)
        point = self.root / "disk"
        point.mkdir()
        subprocess.run(["mount", self.loop, str(point)], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(point)], check=False)
        total = self.make_tree(**self.tree)
        self.settle()
        self.start_daemon(devices=[(point / "ssd", "512MiB")])
        self.wait_for_devices()
        mount = self.mount()
        self.fill(mount, total)

        def shut_down():
            directory = os.open(point, os.O_RDONLY)
            try:
                fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, ctypes.c_uint32(2))  # without flushing the journal
            finally:
                os.close(directory)

        self.run_while_it_fails(mount, shut_down)
        self.daemon.terminate()
