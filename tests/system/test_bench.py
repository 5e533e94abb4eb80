"""cached-bench: speaks fio, from one job file to the same reports; its engines against files, a device, a daemon."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import SystemTest

TIMEOUT_S = 120
BLOCK_BYTES = 4096
# Of each kind a job, short enough that fio takes no samples of bandwidth: these lines come with time, not with the job.
JOB_FILE = """
; both programs run this
[global]
directory={directory}
size=1m
bs=16k
thread
rate=20m

[lay]
rw=write
numjobs=2
ioengine=io_uring
iodepth=4

[one]
stonewall
rw=randread
numjobs=2
nrfiles=2
group_reporting
ioengine=psync   # no submission latency

[mix]
stonewall
rw=randrw
rwmixread=70
ioengine=io_uring
iodepth=2
random_distribution=zipf:1.2
lat_percentiles=1
slat_percentiles=1
"""


def find_bench():
    for path in sorted(pathlib.Path(os.environ["CACHED_BIN_DIR"]).rglob("cached-bench")):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise unittest.SkipTest(f"cached-bench is not built below {os.environ['CACHED_BIN_DIR']}")


def keys_of(value):
    """The keys of nested objects, in their order, without what they hold."""
    if isinstance(value, dict):
        return {key: keys_of(part) for key, part in value.items()}
    if isinstance(value, list):
        return [keys_of(part) for part in value]
    return type(value).__name__.replace("int", "float")


def shape_of(text):
    """The lines of a normal report without figures, units and what depends on them."""
    text = text.split("\nDisk stats")[0]
    text = re.sub(r"pid=\d+: .*", "pid=N", text)
    text = re.sub(r"(fio|cached-bench)-[\d.]+\n", "VERSION\n", text)
    text = re.sub(r"\b[num]sec\b", "UNIT", text)
    text = re.sub(r",\n     \|", ",", text)  # how many percentiles have room on a line depends on the figures
    lines = [line for line in text.splitlines() if not line.startswith("  lat (")]
    return [re.sub(r" *\d+(\.\d+)?([kKMGT]i?)?B?", "#", line) for line in lines]


class BenchTest(SystemTest):
    def setUp(self):
        super().setUp()
        self.bench = find_bench()

    def run_bench(self, *arguments, status=0):
        done = subprocess.run([self.bench, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT_S,
                              check=False, cwd=self.root)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def jobs_of(self, *arguments):
        return json.loads(self.run_bench(*arguments, "--output-format=json").stdout)["jobs"]

    def run_fio(self, *arguments):
        if shutil.which("fio") is None:
            self.skipTest("fio is not installed")
        return subprocess.run(["fio", *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                              cwd=self.root)

    def write_job_file(self, directory):
        (self.root / directory).mkdir()
        path = self.root / f"{directory}.fio"
        path.write_text(JOB_FILE.format(directory=self.root / directory))
        return path

    def test_reports_have_fios_shape(self):
        for output_format, shape in (("json", lambda text: keys_of(json.loads(text))), ("normal", shape_of)):
            fios = self.run_fio(self.write_job_file(f"fio-{output_format}"), f"--output-format={output_format}")
            self.assertEqual(fios.returncode, 0, fios.stderr)
            ours = self.run_bench(self.write_job_file(f"bench-{output_format}"), f"--output-format={output_format}")
            fios, ours = shape(fios.stdout), shape(ours.stdout)
            if output_format == "json":
                fios.pop("disk_util", None)  # of the disk, not of the jobs
                self.assertEqual(list(ours), list(fios))
                for our_job, fio_job in zip(ours["jobs"], fios["jobs"], strict=True):
                    self.assertEqual(list(our_job), list(fio_job))
            self.assertEqual(ours, fios)
        for left, right in (("fio-json", "bench-json"), ("fio-normal", "bench-normal")):
            names = [{path.name: path.stat().st_size for path in (self.root / directory).iterdir()}
                     for directory in (left, right)]
            self.assertEqual(names[0], names[1])

    def test_what_is_unknown_is_named(self):
        self.assertIn("--bogus: no such option", self.run_bench("--bogus=1", status=2).stderr)
        self.assertIn("--verify: 'md5' is not one of 0, crc32c", self.run_bench("--verify=md5", status=2).stderr)
        job_file = self.root / "job.fio"
        job_file.write_text("[a]\nrw=read\n\nbogus=1\n")
        self.assertIn(f"{job_file}:4: bogus: no such option", self.run_bench(job_file, status=2).stderr)

    def test_verification_finds_a_flipped_byte(self):
        job = ["--name=job", "--size=1m", f"--bs={BLOCK_BYTES}", "--verify=crc32c"]
        for engine in ("posix", "io_uring"):
            written = self.jobs_of(*job, "--rw=randwrite", f"--ioengine={engine}", "--iodepth=4")[0]
            self.assertEqual(written["write"]["io_bytes"], 1 << 20)
            self.assertEqual(written["read"]["io_bytes"], 1 << 20)  # reading back is part of the job
            reading = [*job, "--rw=read", f"--ioengine={engine}"]
            self.run_bench(*reading)
            self.assertEqual(self.run_fio(*job, "--rw=read", "--ioengine=psync").returncode, 0)
            self.flip_byte(self.root / "job.0.0", 5 * BLOCK_BYTES + 1000)
            failed = self.run_bench(*reading, "--output-format=normal", status=1)
            self.assertRegex(failed.stderr, r"verify: bad data checksum .* at file job.0.0 offset 20480, length 4096")
            self.assertIn("err=84", failed.stdout)
            self.assertNotEqual(self.run_fio(*job, "--rw=read", "--ioengine=psync").returncode, 0)

    def test_blocks_that_fio_wrote_are_verified(self):
        for verify in ("crc32c", "xxhash", "pattern"):
            job = [f"--name={verify}", "--size=256k", "--bs=4k", f"--verify={verify}", "--verify_pattern=0xabcd01"]
            job = job if verify == "pattern" else job[:-1]
            self.assertEqual(self.run_fio(*job, "--rw=write", "--do_verify=0", "--ioengine=psync").returncode, 0)
            self.run_bench(*job, "--rw=randread", "--ioengine=io_uring", "--iodepth=8")
            self.flip_byte(self.root / f"{verify}.0.0", 100_000)
            self.assertIn("offset 98304", self.run_bench(*job, "--rw=read", status=1).stderr)

    def flip_byte(self, path, offset):
        with open(path, "r+b", buffering=0) as file:
            byte = os.pread(file.fileno(), 1, offset)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1]), offset)

    def test_a_device_is_read_and_written_only_when_told(self):
        device = self.root / "device"
        device.write_bytes(os.urandom(4 << 20))
        before = device.read_bytes()
        job = [f"--filename={device}", "--ioengine=device", "--bs=16k", "--iodepth=8"]
        read = self.jobs_of(*job, "--rw=randread")[0]["read"]
        self.assertEqual(read["io_bytes"], 4 << 20)
        self.assertGreater(read["slat_ns"]["N"], 0)
        self.assertIn("allow_writes", self.run_bench(*job, "--rw=randwrite", status=2).stderr)
        self.assertIn("size, filesize and offset ask for", self.run_bench(*job, "--size=8m", status=1).stderr)
        self.assertEqual(device.read_bytes(), before)
        written = self.jobs_of(*job, "--rw=randwrite", "--allow_writes", "--verify=xxhash")[0]
        self.assertEqual((written["write"]["io_bytes"], written["read"]["io_bytes"]), (4 << 20, 4 << 20))
        self.assertNotEqual(device.read_bytes(), before)
        missing = self.run_bench("--filename=none", "--ioengine=device", status=1)
        self.assertIn("engine device: open none: No such file", missing.stderr)
        self.assertFalse((self.root / "none").exists())

    def test_engine_shm_reads_through_a_daemon(self):
        big = self.write("big", os.urandom(8 << 20))
        for number in range(20):
            self.write(f"small/{number}", os.urandom(1000 + number))
        listing = self.root / "list"
        listing.write_text("".join(f"{1000 + number} small/{number}\n" for number in range(20)))
        self.settle()
        daemon = self.start_daemon()
        job = ["--engine=shm", f"--socket={daemon.socket}", "--volume=data", "--bs=64k"]
        jobs = self.jobs_of(*job, "--filename=big", "--rw=randread", "--iodepth=4", "--numjobs=2", "--group_reporting",
                            "--baseline=memcpy")
        self.assertEqual([job["jobname"] for job in jobs], ["cached-bench"] + 2 * ["cached-bench-memcpy"])
        self.assertEqual(jobs[0]["read"]["io_bytes"], 2 * big.stat().st_size)
        self.assertEqual(jobs[0]["read"]["lat_ns"]["N"], 2 * 128)
        self.jobs_of(*job, "--filename=big", "--in-place", "--runtime=300ms", "--time_based", "--ramp_time=100ms",
                     "--uncounted")
        small = self.jobs_of(*job, "--workload=smallfiles", f"--filelist={listing}", "--in-order", "--iodepth=2")[0]
        self.assertEqual((small["read"]["total_ios"], small["read"]["io_bytes"]), (20, sum(1000 + n for n in range(20))))
        refused = self.run_bench(*job, "--filename=big", "--rw=write", status=2)
        self.assertIn("rw: engine shm reads only", refused.stderr)

    def test_a_mount_is_read_and_never_laid_out(self):
        big = self.write("big", os.urandom(4 << 20))
        self.settle()
        self.start_daemon()
        mount = self.mount()
        for engine in ("posix", "io_uring"):
            job = [f"--directory={mount.path}", f"--ioengine={engine}", "--bs=64k", "--direct=1"]
            read = self.jobs_of(*job, "--filename=big", "--rw=randread", "--iodepth=4", "--random_distribution=pareto:0.3")[0]
            self.assertEqual(read["read"]["io_bytes"], big.stat().st_size)
            failed = self.run_bench(*job, "--name=none", "--size=1m", status=1)
            self.assertIn("cannot lay out", failed.stderr)
            self.assertIn("Read-only file system", failed.stderr)

    def test_verified_files_are_read_through_the_cache(self):
        job = ["--name=data", "--size=2m", "--bs=16k", "--verify=crc32c"]
        self.run_bench(*job, f"--directory={self.source}", "--rw=write", "--end_fsync=1")
        self.settle()
        daemon = self.start_daemon()
        self.run_bench(*job, "--ioengine=shm", f"--socket={daemon.socket}", "--volume=data", "--filename=data.0.0",
                       "--rw=randread", "--iodepth=8")
        mount = self.mount()
        self.run_bench(*job, f"--directory={mount.path}", "--rw=read")

    def test_a_rate_holds_and_progress_is_shown(self):
        done = self.run_bench("--name=slow", "--rw=rw", "--size=1m", "--bs=4k", "--rate=1m,512k", "--time_based", "--runtime=3",
                              "--eta=always", "--output-format=json")
        self.assertRegex(done.stderr, r"Jobs: 1 \(f=1\): \[M\(1\)\]\[\d+\.\d%\]\[r=\S+,w=\S+\]\[r=\d+,w=\d+ IOPS\]\[eta 00m:0\ds\]")
        job = json.loads(done.stdout)["jobs"][0]
        self.assertLess(job["write"]["bw_bytes"], 600 << 10)
        self.assertGreater(job["write"]["bw_bytes"], 400 << 10)
        self.assertGreater(job["write"]["bw_samples"], 2)
