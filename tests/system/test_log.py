"""The daemon's log in a file: structured, rotated, and of no consequence when it cannot be written."""

import json
import unittest

from harness import SystemTest, wait_until


class LogTest(SystemTest):
    log_section = ""

    def config_text(self, name="cached", **config):
        return super().config_text(name, **config) + self.log_section

    def test_a_full_disk_stops_nothing(self):
        self.log_section = '[log]\ntarget = "file"\nfile = "/dev/full"\n'
        mount = self.start_with_tree()
        self.verify_read(mount, passes=1, mode="pread,whole")
        mount.unmount()
        self.daemon.terminate()

    def test_a_json_log_is_an_object_a_line(self):
        log = self.root / "daemon.log"
        self.log_section = f'[log]\ntarget = "file"\nfile = "{log}"\nformat = "json"\n'
        mount = self.start_with_tree()
        mount.unmount()
        self.daemon.terminate()
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertTrue(any("serves 1 volumes" in entry["message"] and entry["level"] == "info" for entry in entries))
        for entry in entries:
            self.assertEqual(set(entry), {"time", "level", "program", "pid", "thread", "message"})

    def test_the_level_leaves_out_what_is_below_it(self):
        log = self.root / "daemon.log"
        self.log_section = f'[log]\ntarget = "file"\nfile = "{log}"\nlevel = "error"\n'
        self.start_daemon()
        self.daemon.terminate()
        self.assertEqual(log.read_text(), "")

    def test_a_log_file_is_rotated_while_the_daemon_runs(self):
        log = self.root / "daemon.log"
        self.log_section = (f'[log]\ntarget = "file"\nfile = "{log}"\nrotate_size = "64KiB"\nrotate_files = 1\n'
                            'lines_per_kind = 0\n')
        log.write_bytes(b"an old line\n" * 5461)  # just below 64 KiB
        self.start_daemon()
        wait_until(lambda: (self.root / "daemon.log.1").exists(), 10, "the file was rotated")
        self.daemon.terminate()
        self.assertIn("serves 1 volumes", log.read_text())
        self.assertNotIn("an old line", log.read_text())


if __name__ == "__main__":
    unittest.main()
