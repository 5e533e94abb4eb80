"""scripts/ceph-cluster.sh: what tests and demonstrations rely on."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from ceph_cluster import CephCluster, run_script
from harness import process_is_gone, wait_until

EXIT_USAGE, EXIT_NOT_RUNNING, EXIT_RUNNING = 2, 3, 4


@contextlib.contextmanager
def cephfs_mount(cluster, directory):
    """The cluster's CephFS at `directory`."""
    process = subprocess.Popen(["ceph-fuse", "-f", "--conf", cluster.conf_file, "--name", "client.admin", directory],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.ismount(directory), 60, "the CephFS is mounted")
        yield
    finally:
        subprocess.run(["umount", directory], check=False)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class CephClusterTest(unittest.TestCase):
    def test_a_cluster_serves_says_that_it_runs_and_leaves_nothing(self):
        with CephCluster(pools=("one", "two")) as cluster:
            self.assertEqual(cluster.command("rados", "lspools").split(), ["one", "two"])
            cluster.command("rados", "-p", "one", "put", "object", __file__)
            self.assertGreaterEqual(cluster.osd_operations()["op_w"], 1)
            again = run_script("start", cluster.directory)
            self.assertEqual(again.returncode, EXIT_RUNNING)
            self.assertIn("is running", again.stderr)
            self.assertIn("osd.0 pid", run_script("status", cluster.directory).stdout)
            pids = cluster.pids("osd") + cluster.pids("mon")
            self.assertEqual(len(pids), 2)
            self.assertEqual(run_script("stop", cluster.directory).returncode, 0)
            self.assertTrue(all(process_is_gone(pid) for pid in pids))
            self.assertFalse(cluster.directory.exists())
            self.assertEqual(run_script("status", cluster.directory).returncode, EXIT_NOT_RUNNING)

    def test_a_cluster_ends_with_its_owner(self):
        child = subprocess.Popen([sys.executable, "-c", "import ceph_cluster, time\n"
                                  "print(ceph_cluster.CephCluster().directory, flush=True)\ntime.sleep(600)"],
                                 stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parent)
        directory = pathlib.Path(child.stdout.readline().strip())
        child.kill()
        child.wait()
        child.stdout.close()
        wait_until(lambda: not directory.exists(), 60, "the cluster is gone")

    def test_a_halted_cluster_goes_on_with_its_data_and_keeps_it_when_its_owner_ends(self):
        with CephCluster() as cluster:
            cluster.command("rados", "-p", "data", "put", "object", __file__)
            self.assertEqual(run_script("halt", cluster.directory).returncode, 0)
            self.assertEqual(run_script("status", cluster.directory).returncode, EXIT_NOT_RUNNING)
            owner = subprocess.Popen(["sleep", "600"])
            resumed = run_script("resume", cluster.directory, "--owner", owner.pid)
            self.assertEqual(resumed.returncode, 0, resumed.stderr)
            self.assertEqual(cluster.command("rados", "-p", "data", "get", "object", "-"), pathlib.Path(__file__).read_text())
            self.assertEqual(run_script("resume", cluster.directory).returncode, EXIT_RUNNING)
            owner.kill()
            owner.wait()
            wait_until(lambda: run_script("status", cluster.directory).returncode == EXIT_NOT_RUNNING, 60, "it is halted")
            self.assertEqual(run_script("resume", cluster.directory).returncode, 0)
            self.assertEqual(cluster.command("rados", "-p", "data", "ls").split(), ["object"])

    def test_a_cluster_with_cephfs_is_mounted_and_keeps_its_files_when_it_is_halted(self):
        with CephCluster(cephfs="files") as cluster, tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            with cephfs_mount(cluster, directory):
                shutil.copyfile(__file__, f"{directory}/file")
            self.assertEqual(run_script("halt", cluster.directory).returncode, 0)
            resumed = run_script("resume", cluster.directory, "--owner", os.getpid())
            self.assertEqual(resumed.returncode, 0, resumed.stderr)
            self.assertIn("mds.a pid", run_script("status", cluster.directory).stdout)
            with cephfs_mount(cluster, directory):
                self.assertEqual(pathlib.Path(directory, "file").read_text(), pathlib.Path(__file__).read_text())

    def test_a_folder_that_is_not_empty_is_left_alone(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            file = pathlib.Path(directory) / "precious"
            file.touch()
            self.assertEqual(run_script("start", directory).returncode, 1)
            self.assertEqual(run_script("stop", directory).returncode, 0)
            self.assertTrue(file.exists())
            self.assertEqual(os.listdir(directory), ["precious"])

    def test_wrong_options_are_refused(self):
        for options in (["--osds", "0"], ["--osd-size", "many"], ["--unknown", "1"], ["--pool"], ["--ec-pool", "x"]):
            self.assertEqual(run_script("start", "/var/tmp/cached-ceph-never", *options).returncode, EXIT_USAGE, options)
        self.assertFalse(pathlib.Path("/var/tmp/cached-ceph-never").exists())
