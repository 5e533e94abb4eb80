"""What an operator and a user see and do with cachedctl: data sets, and what the cache holds of them."""

import json
import os

from harness import SystemTest, read_direct, wait_until

MIB = 1 << 20


class OperatorTest(SystemTest):
    def control(self, *arguments, status=0):
        """Runs cachedctl ... --json, which must end with `status`; returns its answer, or its error line."""
        done = self.daemon.control(*arguments, "--json")
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads(done.stdout) if status == 0 else done.stderr

    def make_files(self):
        """Two directories of files of known sizes, old enough to be kept."""
        for directory, sizes in {"a": [3 * MIB, 100_000], "a/inner": [2 * MIB], "b": [MIB, MIB]}.items():
            (self.source / directory).mkdir()
            for number, size in enumerate(sizes):
                (self.source / directory / f"{number}.bin").write_bytes(os.urandom(size))
        self.settle()

    def start_with_data_sets(self, devices=()):
        self.make_files()
        text = self.config_text(devices=devices)
        for name, directory in {"whole-a": "/a", "inner": "/a/inner/"}.items():
            text += f'[[dataset]]\nname = "{name}"\nvolume = "data"\ndirectory = "{directory}"\n'
        self.start_daemon(devices=devices)
        self.daemon.terminate()
        self.daemon.config.write_text(text)
        self.daemon.start()
        return self.mount()

    def data_sets(self):
        return {entry["name"]: entry for entry in self.control("du")["data_sets"]}

    def read_all(self, mount, directory):
        for parent, _, names in os.walk(mount.path / directory):
            for name in names:
                path = os.path.join(parent, name)
                for offset in range(0, os.path.getsize(path), MIB):
                    read_direct(path, offset)

    def test_du_counts_each_data_set_and_those_inside_it(self):
        mount = self.start_with_data_sets()
        self.assertEqual({name: entry["memory_bytes"] for name, entry in self.data_sets().items()},
                         {"data": 0, "whole-a": 0, "inner": 0})
        self.read_all(mount, "a")
        wait_until(lambda: all(entry["counted"] for entry in self.data_sets().values()), 10, "the origin is counted")
        sets = self.data_sets()
        a_bytes, inner_bytes = 5 * MIB + 100_000, 2 * MIB
        self.assertEqual([sets[name]["bytes"] for name in ("data", "whole-a", "inner")],
                         [a_bytes + 2 * MIB, a_bytes, inner_bytes])
        self.assertEqual([sets[name]["files"] for name in ("data", "whole-a", "inner")], [5, 3, 1])
        self.assertEqual([sets[name]["cached_bytes"] for name in ("data", "whole-a", "inner")],
                         [a_bytes, a_bytes, inner_bytes])
        self.assertEqual([sets[name]["memory_files"] for name in ("data", "whole-a", "inner")], [3, 3, 1])
        self.read_all(mount, "b")
        sets = self.data_sets()
        self.assertEqual(sets["data"]["cached_bytes"], sets["data"]["bytes"])
        self.assertEqual(sets["whole-a"]["cached_bytes"], a_bytes)
        table = self.daemon.control("du").stdout
        self.assertIn("100.0 %", table)
        self.assertIn("data:/a/inner", table)

    def test_du_counts_ssds_and_memory_together_without_counting_twice(self):
        mount = self.start_with_data_sets(devices=[(self.root / "ssd", "64MiB")])
        self.wait_for_devices()
        self.read_all(mount, "a")
        wanted = 5 * MIB + 100_000
        wait_until(lambda: self.data_sets()["whole-a"]["ssd_bytes"] == wanted, 10, "the SSD has all of it")
        entry = self.data_sets()["whole-a"]
        self.assertEqual((entry["cached_bytes"], entry["memory_bytes"], entry["ssd_files"]), (wanted, wanted, 3))
        mount.unmount()
        self.daemon.terminate()
        self.daemon.start()
        wait_until(lambda: self.data_sets()["inner"]["ssd_bytes"] == 2 * MIB, 10, "the SSD's content is counted again")
        self.assertEqual(self.data_sets()["whole-a"]["ssd_bytes"], wanted)

    def test_du_of_what_is_no_data_set_names_those_that_are(self):
        self.start_with_data_sets()
        error = self.control("du", "speech", status=1)
        self.assertIn("data, whole-a, inner", error)
        self.assertEqual([entry["name"] for entry in self.control("du", "inner")["data_sets"]], ["inner"])
