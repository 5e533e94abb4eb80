"""What tests of data sets in RADOS have in common: a real cluster for a module's tests, and an import for each test.

A test derives from RadosTest. Its volume "data" is a data set of its own, which import_tree() makes from self.source;
the volume "local" is the directory self.local, to see that other volumes are not touched by what happens to the cluster.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

from ceph_cluster import CephCluster
from harness import SystemTest, stop_process

EXIT_ERROR, EXIT_USAGE = 1, 2
COMMAND_TIMEOUT_S = 120


class RadosTest(SystemTest):
    osds = 1
    data_pool, metadata_pool = "data", "meta"
    pools, coded_pools = ("data", "meta"), ()
    origin_timeout_ms = 60_000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for program in ("ceph-mon", "ceph-osd", "rados"):
            if shutil.which(program) is None:
                raise AssertionError(f"{program} is missing; packages.list names its package")
        cls.cluster = CephCluster(osds=cls.osds, pools=cls.pools, coded_pools=cls.coded_pools)
        cls.addClassCleanup(cls.cluster.stop)

    def setUp(self):
        super().setUp()
        # What a test does to the cluster's processes ends with it, or it would be the next one's trouble.
        self.addCleanup(self.cluster.mend)
        self.local = self.root / "local"
        self.local.mkdir()
        self.config = self.root / "import.toml"
        self.dataset = f"set-{self._testMethodName[5:40]}"
        self.settings = {"source": f"rados:{self.data_pool}/{self.dataset}", "metadata_pool": self.metadata_pool,
                         "ceph_conf": self.cluster.conf_file, "keyring": self.cluster.keyring,
                         "origin_timeout_ms": self.origin_timeout_ms}
        self.write_config()

    def volume_text(self, **changes):
        """The section of the volume "data"."""
        values = self.settings | changes
        return '[[volume]]\nname = "data"\n' + "".join(
            f"{key} = {value}\n" if isinstance(value, int) else f'{key} = "{value}"\n' for key, value in values.items())

    def write_config(self, **changes):
        """What cachedctl reads for import, export and volume."""
        self.config.write_text('[memory]\nsize = "64MiB"\n' + self.volume_text(**changes))

    def config_text(self, name="cached", rados=None, **config):
        """The daemon's: start_daemon(rados={"keyring": ...}) changes the volume "data"."""
        text = super().config_text(name, volumes={"local": self.local}, **config)
        return text + self.volume_text(**(rados or {}))

    # -- cachedctl ---------------------------------------------------------------------------------------------------

    def command(self, *arguments):
        return [self.program("cachedctl"), *map(str, arguments), "--config", str(self.config)]

    def run_ctl(self, *arguments, status=0):
        """Runs cachedctl to its end and checks the exit status; returns the finished process."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
                              check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def ask(self, *arguments, status=0):
        return json.loads(self.run_ctl(*arguments, "--json", status=status).stdout)

    def import_tree(self, status=0):
        return self.ask("import", self.source, "data", status=status)

    def start_import(self):
        process = subprocess.Popen(self.command("import", self.source, "data"), stdout=subprocess.DEVNULL,
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

    def verify_is_clean(self):
        report = self.ask("volume", "verify", "data")
        self.assertEqual((report["problem_count"], report["orphans"]), (0, 0), report)
        return report

    # -- the cluster -------------------------------------------------------------------------------------------------

    def objects(self, pool=None):
        """Names of this data set's objects in a pool."""
        names = self.cluster.command("rados", "-p", pool or self.data_pool, "ls").split()
        return sorted(name for name in names if name.startswith(self.dataset + "/"))

    def get_object(self, name, pool=None):
        file = self.root / "object"
        self.cluster.command("rados", "-p", pool or self.data_pool, "get", name, file)
        return file.read_bytes()

    def put_object(self, name, content, pool=None):
        file = self.root / "object"
        file.write_bytes(content)
        self.cluster.command("rados", "-p", pool or self.data_pool, "put", name, file)

    # -- the source --------------------------------------------------------------------------------------------------

    def make_files(self, count, size, seed=1, folder="files"):
        generator = random.Random(seed)
        for number in range(count):
            path = self.source / folder / f"{number % 10}" / f"file-{number:05}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(generator.randbytes(size))

    # -- the daemon --------------------------------------------------------------------------------------------------

    def volume(self, name="data", daemon=None):
        """A volume as `cachedctl volumes` shows it."""
        done = (daemon or self.daemon).control("volumes", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return next(volume for volume in json.loads(done.stdout)["volumes"] if volume["name"] == name)

    def daemon_log(self, daemon=None):
        log = self.processes[(daemon or self.daemon).process]
        return pathlib.Path(log).read_text(errors="replace").splitlines()

    def start_and_mount(self, **options):
        self.start_daemon()
        return self.mount(**options)
