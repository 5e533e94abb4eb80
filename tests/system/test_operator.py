"""What an operator and a user see and do with cachedctl: data sets, and what the cache holds of them."""

import json
import os
import signal
import subprocess
import time

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

    # -- warm -------------------------------------------------------------------------------------------------------

    def origin_bytes(self):
        return self.status()["origin"]["read_bytes"]

    def test_warm_brings_a_directory_in_and_costs_nothing_the_second_time(self):
        mount = self.start_with_data_sets()
        ended = self.job("warm", str(mount.path / "a"))
        wanted = 5 * MIB + 100_000
        self.assertEqual((ended["state"], ended["files"], ended["bytes"], ended["errors"]), ("done", 3, wanted, 0))
        self.assertEqual(ended["fetched_bytes"], wanted)
        self.assertEqual(self.data_sets()["whole-a"]["cached_bytes"], wanted)
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], wanted)
        before = self.origin_bytes()
        self.assertEqual(self.job("warm", "data:/a")["fetched_bytes"], 0)
        self.read_all(mount, "a")
        self.assertEqual(self.origin_bytes(), before)

    def test_warm_takes_a_file_a_data_set_and_a_volume(self):
        self.start_with_data_sets()
        self.assertEqual(self.job("warm", "data:/b/0.bin")["bytes"], MIB)
        self.assertEqual(self.job("warm", "inner")["bytes"], 2 * MIB)
        self.assertEqual(self.job("warm", "data")["bytes"], 7 * MIB + 100_000)
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], 7 * MIB + 100_000)

    def test_warm_counts_for_a_data_set_what_was_cached_before_it_was_one(self):
        mount = self.start_with_data_sets()
        self.read_all(mount, "b")
        with open(self.daemon.config, "a", encoding="utf-8") as config:
            config.write('[[dataset]]\nname = "late"\nvolume = "data"\ndirectory = "/b"\n')
        self.control("reload")
        self.assertEqual(self.data_sets()["late"]["cached_bytes"], 0)
        self.assertEqual(self.job("warm", "late")["fetched_bytes"], 0)
        self.assertEqual(self.data_sets()["late"]["cached_bytes"], 2 * MIB)

    def test_warm_fills_an_ssd_beyond_memory(self):
        (self.source / "big").mkdir()
        for number in range(12):
            (self.source / "big" / str(number)).write_bytes(os.urandom(16 * MIB))
        self.settle()
        self.start_daemon(memory="64MiB", devices=[(self.root / "ssd", "400MiB")])
        self.wait_for_devices()
        ended = self.job("warm", "data:/big")
        self.assertEqual((ended["state"], ended["bytes"]), ("done", 192 * MIB))
        wait_until(lambda: self.data_sets()["data"]["ssd_bytes"] > 180 * MIB, 20, "the SSD has nearly all of it")
        self.assertGreater(self.data_sets()["data"]["cached_bytes"], 185 * MIB)

    def test_warm_verifies_what_is_cached(self):
        self.start_with_data_sets()
        ended = self.job("warm", "data:/a", "--verify")
        self.assertEqual((ended["state"], ended["verified_bytes"]), ("done", 5 * MIB + 100_000))

    def test_warm_keeps_to_its_rate_and_is_cancelled_by_ctrl_c(self):
        self.start_with_data_sets()
        begin = time.monotonic()
        warm = subprocess.Popen([self.program("cachedctl"), "--socket", str(self.daemon.control_socket), "warm", "data",
                                 "--rate", "1MiB", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1.5)
        warm.send_signal(signal.SIGINT)
        output, _ = warm.communicate(timeout=10)
        self.assertEqual(warm.returncode, 130)
        self.assertLess(time.monotonic() - begin, 8)
        ended = json.loads(output)["jobs"][0]
        self.assertEqual(ended["state"], "cancelled")
        self.assertLess(ended["bytes"], 7 * MIB)
        self.assertEqual(self.job("warm", "data")["state"], "done")

    def test_warm_runs_in_the_background_and_is_cancelled_by_number(self):
        self.start_with_data_sets()
        job = self.job("warm", "data", "--rate", "100KiB", "--background")
        self.assertEqual(job["state"], "running")
        listed = self.control("jobs")["jobs"]
        self.assertEqual([(entry["id"], entry["what"]) for entry in listed], [(job["id"], "data:/")])
        self.control("warm", "--cancel", str(job["id"]))
        wait_until(lambda: self.control("jobs")["jobs"][0]["state"] == "cancelled", 5, "the job ends")
        self.assertIn("has ended already", self.control("warm", "--cancel", str(job["id"]), status=1))

    def test_paths_outside_of_mounts_and_unknown_places_are_refused_with_what_to_say(self):
        self.start_with_data_sets()
        self.assertIn("no mount of cached", self.control("warm", str(self.root), status=2))
        self.assertIn("VOLUME:/PATH", self.control("warm", "nothing", status=1))
        self.assertIn("No such file", self.job("warm", "data:/absent", status=1)["error"])
        self.assertEqual(self.job("warm", "data:/../b/../../b")["bytes"], 2 * MIB)  # cannot climb out

    # -- rights -----------------------------------------------------------------------------------------------------

    def control_as(self, uid, groups, *arguments):
        """Runs cachedctl --json as another user; returns (exit status, text of both streams)."""
        done = subprocess.run([self.program("cachedctl"), "--socket", str(self.daemon.control_socket), *arguments, "--json"],
                              user=uid, group=uid, extra_groups=groups, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    def start_with_rights(self):
        self.make_files()
        os.chmod(self.source / "a", 0o750)
        os.chown(self.source / "a", 0, 4242)
        os.chmod(self.source / "b" / "0.bin", 0o600)
        os.chmod(self.source / "b" / "1.bin", 0o640)
        subprocess.run(["setfacl", "-m", "u:5151:r", str(self.source / "b" / "1.bin")], check=True)
        self.start_daemon()

    def test_a_user_warms_and_evicts_what_that_user_can_read(self):
        self.start_with_rights()
        status, text = self.control_as(5000, [], "warm", "data:/a")
        self.assertEqual(status, 1, text)
        self.assertIn("permission denied", text)
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], 0)
        self.assertEqual(self.control_as(5000, [4242], "warm", "data:/a")[0], 0)
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], 5 * MIB + 100_000)
        # Of b, one file is root's alone, and one is for a user whom its ACL names.
        status, text = self.control_as(5000, [], "warm", "data:/b")
        self.assertEqual((status, json.loads(text)["jobs"][0]["bytes"], json.loads(text)["jobs"][0]["refused"]), (0, 0, 2))
        status, text = self.control_as(5151, [], "warm", "data:/b")
        self.assertEqual((status, json.loads(text)["jobs"][0]["bytes"], json.loads(text)["jobs"][0]["refused"]), (0, MIB, 1))
        # A volume as a whole goes by what the user can read, too.
        status, text = self.control_as(5151, [], "evict", "data")
        self.assertEqual(status, 0, text)
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], 5 * MIB + 100_000)

    def test_a_user_pins_nothing_reloads_nothing_and_cancels_no_job_of_others(self):
        self.start_with_rights()
        job = self.job("warm", "data", "--rate", "100KiB", "--background")
        for command in (["pin", "data:/b"], ["unpin", "data:/b"], ["reload"], ["warm", "--cancel", str(job["id"])],
                        ["evict", "data", "--older-than", "1h"]):
            status, text = self.control_as(5000, [], *command)
            self.assertEqual(status, 1, f"{command}: {text}")
        for command in (["status"], ["du"], ["top"], ["jobs"], ["pins"], ["sessions"], ["config", "show"]):
            status, text = self.control_as(5000, [], *command)
            self.assertEqual(status, 0, f"{command}: {text}")
        self.control("warm", "--cancel", str(job["id"]))

    # -- evict ------------------------------------------------------------------------------------------------------

    def test_evict_takes_out_what_lies_below_a_path_and_leaves_the_origin(self):
        mount = self.start_with_data_sets()
        self.job("warm", "data")
        before = {path: path.read_bytes() for path in self.source.rglob("*.bin")}
        dry = self.job("evict", "data:/a/inner", "--dry-run")
        self.assertEqual((dry["evicted_memory_bytes"], self.data_sets()["inner"]["cached_bytes"]), (2 * MIB, 2 * MIB))
        self.assertEqual(self.job("evict", str(mount.path / "a" / "0.bin"))["evicted_memory_bytes"], 3 * MIB)
        self.assertEqual(self.job("evict", "inner")["evicted_memory_bytes"], 2 * MIB)
        sets = self.data_sets()
        self.assertEqual((sets["inner"]["cached_bytes"], sets["whole-a"]["cached_bytes"]), (0, 100_000))
        self.assertEqual(sets["data"]["cached_bytes"], 2 * MIB + 100_000)
        self.assertEqual(before, {path: path.read_bytes() for path in self.source.rglob("*.bin")})
        self.read_all(mount, "a")
        self.assertEqual(self.data_sets()["whole-a"]["cached_bytes"], 5 * MIB + 100_000)

    def test_evict_of_a_data_set_takes_deleted_files_and_ssds_along(self):
        self.start_with_data_sets(devices=[(self.root / "ssd", "64MiB")])
        self.wait_for_devices()
        self.job("warm", "data")
        wanted = 7 * MIB + 100_000
        wait_until(lambda: self.data_sets()["data"]["ssd_bytes"] == wanted, 10, "the SSD has all of it")
        (self.source / "b" / "0.bin").unlink()
        ended = self.job("evict", "data")
        self.assertEqual((ended["evicted_memory_bytes"], ended["evicted_ssd_bytes"]), (wanted, wanted))
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], 0)

    def test_evict_by_age_leaves_what_was_used_since(self):
        self.start_with_data_sets()
        self.job("warm", "data:/a")
        time.sleep(3)
        self.job("warm", "data:/b")
        self.assertEqual(self.job("evict", "data", "--older-than", "2s")["evicted_memory_bytes"], 5 * MIB + 100_000)
        self.assertEqual(self.data_sets()["data"]["cached_bytes"], 2 * MIB)

    # -- pin --------------------------------------------------------------------------------------------------------

    def test_what_is_pinned_stays_when_everything_else_is_evicted(self):
        for directory, files in {"keep": 2, "other": 24}.items():
            (self.source / directory).mkdir()
            for number in range(files):
                (self.source / directory / str(number)).write_bytes(os.urandom(4 * MIB))
        self.settle()
        self.start_daemon(memory="64MiB")
        mount = self.mount()
        self.assertEqual(self.job("pin", "data:/keep")["state"], "done")
        self.assertEqual(self.control("pins")["pins"], [{"place": "data:/keep", "uid": 0, "bytes": 8 * MIB, "files": 2}])
        for _ in range(2):
            self.read_all(mount, "other")
        self.job("evict", "data")
        before = self.origin_bytes()
        self.read_all(mount, "keep")
        self.assertEqual(self.origin_bytes(), before)
        self.control("unpin", "data:/keep")
        self.assertEqual(self.control("pins")["pinned_bytes"], 0)
        # Read-ahead that was under way at the first eviction may have come in behind it.
        evicted = self.job("evict", "data")["evicted_memory_bytes"]
        self.assertGreaterEqual(evicted, 8 * MIB)
        self.assertLess(evicted, 16 * MIB)

    def test_a_pin_beyond_the_limit_pins_nothing(self):
        self.start_with_data_sets()
        self.daemon.config.write_text(self.daemon.config.read_text().replace("[memory]\n", '[memory]\npin_limit = "3MiB"\n'))
        self.control("reload")
        ended = self.job("pin", "data:/a", status=1)
        self.assertEqual(ended["state"], "failed")
        self.assertIn("pin_limit", ended["error"])
        self.assertEqual(self.control("pins"), {"pins": [], "pinned_bytes": 0, "limit_bytes": 3 * MIB})
        self.assertEqual(self.job("pin", "inner")["state"], "done")
        self.assertIn("pinned already", self.control("pin", "inner", status=1))

    # -- status, top ------------------------------------------------------------------------------------------------

    def test_status_tells_the_hit_ratios_of_the_last_minute_and_since_the_start(self):
        mount = self.start_with_data_sets()
        for _ in range(3):
            self.read_all(mount, "b")
        for span in ("total", "recent"):
            traffic = self.status()["traffic"][span]
            self.assertEqual((traffic["read_bytes"], traffic["hit_bytes"], traffic["origin_bytes"]),
                             (6 * MIB, 4 * MIB, 2 * MIB))
            self.assertAlmostEqual(traffic["hit_ratio_bytes"], 2 / 3, places=6)
            self.assertEqual(traffic["saved_bytes"], 4 * MIB)
        self.assertIn("hit ratio 66.7 % of bytes", self.daemon.control("status").stdout)

    def test_top_tells_mounts_users_and_data_sets_apart(self):
        mount = self.start_with_data_sets()
        other = self.mount()
        self.read_all(mount, "a")
        self.assertEqual(self.as_user(1234, 1234, lambda: read_direct(other.path / "b" / "0.bin", 0)), 0)
        answer = self.control("top")
        self.assertEqual({entry["label"]: entry["read_bytes"] for entry in answer["mounts"]},
                         {str(mount.path): 5 * MIB + 100_000, str(other.path): MIB})
        self.assertEqual({entry["uid"]: entry["read_bytes"] for entry in answer["users"]},
                         {0: 5 * MIB + 100_000, 1234: MIB})
        self.assertEqual({entry["name"]: entry["read_bytes"] for entry in answer["data_sets"]},
                         {"data": 6 * MIB + 100_000, "whole-a": 5 * MIB + 100_000, "inner": 2 * MIB})
        shown = self.daemon.control("top", "--once", "--interval", "0.1")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for name in (str(mount.path), "1234", "whole-a"):
            self.assertIn(name, shown.stdout)

    # -- reload -----------------------------------------------------------------------------------------------------

    def change_config(self, old, new):
        text = self.daemon.config.read_text()
        self.assertIn(old, text)
        self.daemon.config.write_text(text.replace(old, new, 1))

    def test_reload_adds_and_removes_volumes_while_mounts_go_on(self):
        self.make_tree()
        (self.root / "second").mkdir()
        (self.root / "second" / "file").write_text("here")
        self.start_daemon()
        mount = self.mount()
        reader = self.start_verify("read", mount.path, "--manifest", self.manifest, "--passes", "3")
        self.daemon.config.write_text(self.config_text(volumes={"more": self.root / "second"}))
        changed = self.control("reload")["changed"]
        self.assertIn('volume "more" is new', changed)
        self.assertTrue(any(text.startswith('volume "data" is gone') for text in changed), changed)
        second = self.mount("more")
        self.assertEqual((second.path / "file").read_text(), "here")
        self.finish_verify(reader)
        status, line = self.run_to_failure(self.mount_command("data", self.root / "second", "-f"))
        self.assertIn("data", line)
        self.assertEqual({entry["name"]: entry["mountable"] for entry in self.control("volumes")["volumes"]},
                         {"more": True, "data": False})

    def test_reload_names_what_needs_a_restart(self):
        self.start_with_data_sets()
        self.change_config('size = "256MiB"', 'size = "128MiB"')
        self.change_config('shards = 1\n', 'shards = 1\n[log]\nlevel = "debug"\n')
        answer = self.control("reload")
        self.assertEqual(answer["needs_restart"], ['memory.size: "256MiB" -> "128MiB"'])
        self.assertEqual(answer["changed"], ['log.level: "info" -> "debug"'])
        values = {item["key"]: item["value"] for item in self.control("config", "show")["values"]}
        self.assertEqual((values["memory.size"], values["log.level"]), ('"256MiB"', '"debug"'))

    def test_a_bad_file_changes_nothing_and_says_why(self):
        self.start_with_data_sets()
        before = self.control("config", "show")
        self.change_config('shards = 1\n', 'shards = 1\n[log]\nlevel = "debug"\n')
        self.change_config('directory = "/a"', 'directory = "a"')
        self.assertIn("dataset[0].directory", self.control("reload", status=1))
        self.assertEqual(self.control("config", "show"), before)
        os.kill(self.daemon.process.pid, signal.SIGHUP)
        log = self.processes[self.daemon.process]
        wait_until(lambda: "was not reloaded" in log.read_text(), 5, "the log says so")
        self.assertEqual(self.control("config", "show"), before)

    def test_sighup_reloads(self):
        self.start_with_data_sets()
        self.change_config('name = "inner"', 'name = "innermost"')
        os.kill(self.daemon.process.pid, signal.SIGHUP)
        wait_until(lambda: "innermost" in self.data_sets(), 5, "the data set has its new name")
        self.assertNotIn("inner", self.data_sets())
