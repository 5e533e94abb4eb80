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
import time

from harness import process_is_gone, stop_process

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "ceph-cluster.sh"
START_TIMEOUT_S = 120
COMMAND_TIMEOUT_S = 60


def run_script(*arguments, timeout_s=START_TIMEOUT_S):
    """Runs the script; returns the finished process with its output as text."""
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, check=False)


class CephCluster:
    def __init__(self, osds=1, pools=("data",), coded_pools=(), osd_size="8GiB", cephfs=None):
        # Short, because socket paths are limited, and on a disk, because BlueStore needs O_DIRECT.
        self.restarted = []
        self.disturbed = False
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="cached-ceph-", dir="/var/tmp"))
        options = ["--osds", osds, "--osd-size", osd_size, "--owner", os.getpid()]
        for name in pools:
            options += ["--pool", name]
        for name in coded_pools:
            options += ["--ec-pool", name]
        if cephfs is not None:
            options += ["--cephfs", cephfs]
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
        for process in self.restarted:
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def pids(self, kind):
        """Process ids of "osd" (all) or "mon"."""
        return [int(path.read_text()) for path in sorted(self.directory.glob(f"{kind}.*.pid"))]

    def signal(self, kind, number):
        self.disturbed = True
        for pid in self.pids(kind):
            os.kill(pid, number)

    def kill(self, name):
        """SIGKILL for one process ("osd.0", "mon.a"), and waits for its end."""
        self.disturbed = True
        pid = int((self.directory / f"{name}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while not process_is_gone(pid):
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} does not end")
            time.sleep(0.01)

    def restart(self, name):
        """Starts a process of the cluster again that has ended. What it left in the kernel may hold its locks for a moment, and
        one that finds them held ends: then once more."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        process = self._start_again(name)
        begun = time.monotonic()
        while time.monotonic() < begun + 3:
            time.sleep(0.1)
            if process.poll() is None:
                continue
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} does not start:\n{(self.directory / f'{name}.out').read_text()[-2000:]}")
            process = self._start_again(name)
            begun = time.monotonic()
        self.restarted.append(process)
        (self.directory / f"{name}.pid").write_text(f"{process.pid}\n")

    def _start_again(self, name):
        program = {"osd": "ceph-osd", "mon": "ceph-mon"}[name.split(".")[0]]
        with open(self.directory / f"{name}.out", "ab") as output:
            return subprocess.Popen([program, "-i", name.split(".")[1], "-f", "--conf", self.conf_file],
                                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def mend(self):
        """Whatever a test did to the processes: all run, and the OSDs serve."""
        if not self.disturbed:
            return
        for path in sorted(self.directory.glob("*.*.pid")):
            if process_is_gone(int(path.read_text())):
                self.restart(path.name.removesuffix(".pid"))
            else:
                os.kill(int(path.read_text()), signal.SIGCONT)
        self.wait_for_osds()
        self.disturbed = False

    def wait_for_osds(self):
        """Waits until the monitor answers and has all OSDs up and all placement groups served."""
        osds = len(self.pids("osd"))
        deadline = time.monotonic() + START_TIMEOUT_S
        while f"{osds} up" not in self._osd_state():
            if time.monotonic() > deadline:
                raise AssertionError(f"the OSDs do not come back: {self._osd_state()}")
            time.sleep(0.2)

    def _osd_state(self):
        done = subprocess.run(["ceph", "--conf", self.conf_file, "--connect-timeout", "10", "osd", "stat"],
                              capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        return done.stdout + done.stderr

    def pause(self, kind):
        """Returns when no thread of them runs any more."""
        self.disturbed = True
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
