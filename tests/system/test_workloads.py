"""The workloads of cached-bench, small, through a real mount: what they read, count and refuse."""

import json
import shutil
import subprocess
import unittest

from harness import SystemTest

FILES = 200
EPOCHS = 2


class WorkloadsTest(SystemTest):
    def bench(self, workload, *arguments):
        """Runs a workload; returns the jobs of its JSON."""
        command = [self.program("cached-bench"), workload, *map(str, arguments), "--output-format=json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["workload"], workload)
        return report["jobs"]

    def start(self):
        """A daemon on the source and a mount of it, once what was made there is old enough to be kept."""
        self.settle()
        self.start_daemon()
        return self.mount()

    def make_corpus(self, corpus):
        [made] = self.bench("smallfiles", f"--make={self.source}/{corpus}", f"--corpus={corpus}", f"--nrfiles={FILES}")
        return made["read"]["io_bytes"]

    def test_epochs_read_everything_once_and_tell_what_was_cached(self):
        size = self.make_corpus("speech")
        (self.source / "records").write_bytes(bytes(FILES * 65536))
        mount = self.start()
        counted = [f"--socket={self.daemon.control_socket}", f"--epochs={EPOCHS}", "--numjobs=3"]
        jobs = self.bench("epochs", f"--directory={mount.path}/speech", *counted)
        self.assertEqual([job["read"]["io_bytes"] for job in jobs], [size] * EPOCHS)
        self.assertEqual([job["read"]["total_ios"] for job in jobs], [FILES] * EPOCHS)
        self.assertEqual(jobs[0]["cache"]["hit_ratio"], 0, "the first epoch reads all from the origin")
        jobs = self.bench("epochs", f"--filename={mount.path}/records", "--bs=64k", "--direct", *counted)
        self.assertEqual([job["read"]["total_ios"] for job in jobs], [FILES] * EPOCHS)
        self.assertLess(jobs[0]["cache"]["hit_ratio"], 1)
        self.assertEqual(jobs[1]["cache"], {"hit_ratio": 1, "memory_hit_ratio": 1, "asked_bytes": FILES * 65536,
                                            "origin_bytes": 0})

    def test_small_files_are_read_in_both_orders(self):
        size = self.make_corpus("python")
        mount = self.start()
        for order in ("random", "directory"):
            [job] = self.bench("smallfiles", f"--directory={mount.path}/python", f"--order={order}", "--numjobs=2")
            self.assertEqual((job["read"]["total_ios"], job["read"]["io_bytes"]), (FILES, size))
            self.assertEqual(job["read"]["clat_ns"]["N"], FILES)

    def test_lmdb_gives_every_record_by_its_key(self):
        self.bench("lmdb", f"--make={self.source}/samples.mdb", "--nrrecords=3000", "--bs=6k")
        mount = self.start()
        for job in self.bench("lmdb", f"--filename={mount.path}/samples.mdb", "--numjobs=2", "--loops=2"):
            self.assertEqual((job["read"]["total_ios"], job["read"]["io_bytes"]), (3000, 3000 * 6144))

    def test_import_takes_its_modules_from_the_mount(self):
        [made] = self.bench("import", f"--make={self.source}/tree")
        mount = self.start()
        before = self.status()["clients"]["read_bytes"]
        jobs = self.bench("import", f"--directory={mount.path}/tree", "--loops=2")
        for job in jobs:
            self.assertGreaterEqual(job["read"]["total_ios"], made["read"]["total_ios"])
        self.assertGreater(self.status()["clients"]["read_bytes"] - before, 1 << 20)
        # A tree whose list names what it does not have must not pass for one that was imported.
        broken = self.root / "broken"
        shutil.copytree(self.source / "tree/packages", broken / "packages")
        (broken / "modules.list").write_text("json\nno_such_module_anywhere\n")
        done = subprocess.run([self.program("cached-bench"), "import", f"--directory={broken}"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no_such_module_anywhere", done.stderr)

    def test_shared_reads_all_mounts_and_adds_them_up(self):
        size = self.make_corpus("speech")
        first = self.start()
        mounts = [first, self.mount(), self.mount()]
        jobs = self.bench("shared", "--directory=" + ":".join(f"{mount.path}/speech" for mount in mounts))
        self.assertEqual([job["read"]["io_bytes"] for job in jobs], [size] * 3 + [3 * size])
        self.assertEqual(self.status()["origin"]["read_bytes"], size, "each byte came from the origin once")

    def test_wrong_command_lines_are_refused(self):
        for workload, *arguments in (["epochs"], ["epochs", "--directory=/tmp", "--filename=x"], ["epochs", "--epochs=0"],
                                     ["smallfiles", "--directory=/tmp", "--order=upwards"], ["smallfiles", "--nrfiles=3"],
                                     ["lmdb", "--bs=four"], ["import", "--directory=/tmp", "--numjobs=2"], ["shared"],
                                     ["shared", "--directory=/tmp", "--no-such-option"],
                                     ["epochs", "--directory=/tmp", "--output-format=xml"]):
            status, line = self.run_to_failure([self.program("cached-bench"), workload, *arguments])
            self.assertEqual(status, 2, line)
            self.assertIn(f"cached-bench {workload}: ", line)


if __name__ == "__main__":
    unittest.main()
