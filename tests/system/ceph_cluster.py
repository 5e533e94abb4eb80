"""A real Ceph cluster for system tests: scripts/ceph-cluster.sh in a folder of its own.

    with CephCluster(osds=1, pools=("data",)) as cluster:
        ... cluster.conf_file, cluster.keyring ...
        cluster.signal("osd", signal.SIGSTOP)

The cluster ends with the `with`, or with this process, however that ends.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from harness import stop_process

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "ceph-cluster.sh"
START_TIMEOUT_S = 120
COMMAND_TIMEOUT_S = 60


def run_script(*arguments, timeout_s=START_TIMEOUT_S):
    """Runs the script; returns the finished process with its output as text."""
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, check=False)


class CephCluster:
    def __init__(self, osds=1, pools=("data",), coded_pools=(), osd_size="8GiB"):
        # Short, because socket paths are limited, and on a disk, because BlueStore needs O_DIRECT.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="cached-ceph-", dir="/var/tmp"))
        options = ["--osds", osds, "--osd-size", osd_size, "--owner", os.getpid()]
        for name in pools:
            options += ["--pool", name]
        for name in coded_pools:
            options += ["--ec-pool", name]
        done = run_script("start", self.directory, *options)
        if done.returncode != 0:
            self.stop()
            raise RuntimeError(f"the Ceph cluster did not start:\n{done.stderr}")
        self.conf_file = self.directory / "ceph.conf"
        self.keyring = self.directory / "keyring"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        run_script("stop", self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self, kind):
        """Process ids of "osd" (all) or "mon"."""
        return [int(path.read_text()) for path in sorted(self.directory.glob(f"{kind}.*.pid"))]

    def signal(self, kind, number):
        for pid in self.pids(kind):
            os.kill(pid, number)

    def pause(self, kind):
        """Returns when no thread of them runs any more."""
        for pid in self.pids(kind):
            stop_process(pid)

    def resume(self, kind):
        self.signal(kind, signal.SIGCONT)

    def command(self, program, *arguments, timeout_s=COMMAND_TIMEOUT_S):
        """Runs `ceph` or `rados` as the administrator; returns its standard output."""
        done = subprocess.run([program, "--conf", self.conf_file, *map(str, arguments)], capture_output=True, text=True,
                              timeout=timeout_s, check=True)
        return done.stdout

    def osd_operations(self):
        """Client operations that the OSDs have served since they started: {"op_r": n, "op_w": n, ...}, summed up."""
        total = {}
        for socket in sorted(self.directory.glob("osd.*.asok")):
            counters = json.loads(self.command("ceph", "daemon", socket, "perf", "dump", "osd"))["osd"]
            for name in ("op", "op_r", "op_w", "op_r_out_bytes", "op_w_in_bytes"):
                total[name] = total.get(name, 0) + counters[name]
        return total
