"""The exporter: what a scrape shows, and that dashboard, alert rules and manual name nothing else."""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import unittest
import urllib.request

from harness import START_TIMEOUT_S, SystemTest, wait_until

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "config"
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"')
NAME = re.compile(r"\bcached_[a-z0-9_]+")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Scrape:
    """One answer of the exporter: families by name, and samples."""

    def __init__(self, text):
        self.text = text
        self.types, self.helps, self.samples = {}, {}, []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name, self.helps[name] = line.split(" ", 3)[2], line.split(" ", 3)[3]
            elif line.startswith("# TYPE "):
                self.types[line.split(" ")[2]] = line.split(" ")[3]
            elif line:
                name, labels, value = SAMPLE.match(line).groups()
                self.samples.append((name, dict(LABEL.findall(labels or "")), float(value)))

    def value(self, name, **labels):
        """The sum of the samples with these labels."""
        return sum(value for sample, has, value in self.samples
                   if sample == name and all(has.get(key) == wanted for key, wanted in labels.items()))


def table_of(manual):
    """The rows of the manual: name -> (type, labels, help)."""
    rows = {}
    for line in manual.splitlines():
        if line.startswith("| `"):
            name, kind, _, labels, text = [cell.strip() for cell in line.strip("|").split("|")]
            rows[name.strip("`")] = (kind, labels, text)
    return rows


def without_suffix(name, table):
    """`name` as the table has it: a histogram's series have three suffixes."""
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix) and table.get(name.removesuffix(suffix), ("",))[0] == "histogram":
            return name.removesuffix(suffix)
    return name


class MetricsTest(SystemTest):
    def manual(self):
        return subprocess.run([self.program("cached"), "--list-metrics"], check=True, capture_output=True,
                              text=True).stdout

    def config_text(self, name="cached", **config):
        self.port = free_port()
        return super().config_text(name, **config) + f'[metrics]\nlisten = "127.0.0.1:{self.port}"\n'

    def scrape(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return Scrape(answer.read().decode())

    def start_everything(self):
        """A daemon with an SSD, a mount, and reads of each kind."""
        self.make_tree()
        self.start_daemon(devices=[(self.root / "ssd.img", "64MiB")])
        self.wait_for_devices()
        mount = self.mount()
        self.verify_read(mount, passes=2, mode="pread,direct,whole")
        return mount

    def check_series(self, scrape):
        series = [(name, tuple(sorted(labels.items()))) for name, labels, _ in scrape.samples]
        self.assertEqual(len(series), len(set(series)), "a series appears twice")

    def names_in_config(self):
        """Names of metrics in dashboard and rules, each with where it stands."""
        board = json.loads((CONFIG / "grafana-dashboard.json").read_text())
        texts = {f"panel {panel['title']}": target["expr"] for panel in board["panels"] for target in panel["targets"]}
        texts |= {f"variable {item['name']}": item["query"] for item in board["templating"]["list"]}
        rules = (CONFIG / "alerts.yml").read_text()
        texts["alerts.yml"] = "\n".join(line for line in rules.splitlines() if not line.lstrip().startswith("#"))
        return {(place, name) for place, text in texts.items() for name in NAME.findall(text)}

    def test_a_scrape_shows_what_the_table_declares_and_nothing_else(self):
        table = table_of(self.manual())
        self.start_everything()
        scrape = self.scrape()
        ours = {name for name in scrape.types if not name.startswith("exposer_")}
        of_daemon = {name for name in table if not name.startswith("cached_mount_")}
        self.assertEqual(ours, of_daemon)
        for name in ours:
            kind, labels, text = table[name]
            self.assertEqual(scrape.types[name], kind, name)
            self.assertEqual(scrape.helps[name], text, name)
            for sample, has, _ in scrape.samples:
                if without_suffix(sample, table) == name:
                    self.assertEqual(sorted(set(has) - {"le"}), sorted(filter(None, labels.split(","))), sample)
        self.check_series(scrape)

    def test_a_mounts_stats_show_what_the_table_declares_and_nothing_else(self):
        table = table_of(self.manual())
        mount = self.start_everything()
        stats = Scrape((mount.path / ".stats").read_text())
        self.assertEqual(set(stats.types), {name for name in table if name.startswith("cached_mount_")})
        for name, text in stats.helps.items():
            self.assertEqual(text, table[name][2])
            self.assertEqual(stats.types[name], table[name][0])

    def test_figures_follow_what_was_read(self):
        mount = self.start_everything()
        before = self.scrape()
        stats = Scrape((mount.path / ".stats").read_text())
        for name in ("reads", "read_bytes", "hit_bytes", "miss_bytes"):
            of_mount = stats.value(f"cached_mount_{name}_total")
            self.assertEqual(before.value(f"cached_volume_{name}_total", volume="data"), of_mount, name)
            self.assertEqual(before.value(f"cached_session_{name}_total", mount=str(mount.path)), of_mount, name)
        self.assertGreater(before.value("cached_reads_total", tier="shared_memory", outcome="ok"), 0)
        self.assertGreater(before.value("cached_reads_total", tier="origin", outcome="ok"), 0)
        self.assertGreater(before.value("cached_read_bytes_total", tier="origin", outcome="ok"), 0)
        self.assertEqual(before.value("cached_read_duration_seconds_count", tier="origin", outcome="ok"),
                         before.value("cached_reads_total", tier="origin", outcome="ok"))
        self.assertEqual(before.value("cached_read_duration_seconds_bucket", tier="origin", outcome="ok", le="+Inf"),
                         before.value("cached_reads_total", tier="origin", outcome="ok"))
        self.assertGreater(before.value("cached_origin_read_bytes_total", volume="data"), 0)
        self.assertEqual(before.value("cached_sessions", volume="data"), 1)
        self.assertGreater(before.value("cached_shard_cpu_seconds_total", shard="0"), 0)
        self.assertEqual(before.value("cached_device_healthy"), 1)
        mount.unmount()
        wait_until(lambda: self.scrape().value("cached_sessions", volume="data") == 0, START_TIMEOUT_S,
                   "the session is gone")
        after = self.scrape()
        self.assertEqual(after.value("cached_volume_read_bytes_total", volume="data"),
                         before.value("cached_volume_read_bytes_total", volume="data"),
                         "a volume's counters outlive its sessions")
        self.assertEqual(after.value("cached_session_reads_total"), 0, "a session's series end with it")

    def test_figures_go_on_over_a_reload_and_show_what_it_brought(self):
        mount = self.start_everything()
        before = self.scrape()
        text = self.daemon.config.read_text()
        (self.root / "elsewhere").mkdir()
        (self.root / "elsewhere" / "file").write_text("here")
        text = text.replace(f"dir:{self.source}", f"dir:{self.root}/elsewhere")
        text += f'[[volume]]\nname = "more"\nsource = "dir:{self.source}"\n'
        self.daemon.config.write_text(text.replace("[daemon]\n", "[daemon]\nmax_sessions = 77\n"))
        self.assertEqual(self.daemon.control("reload").returncode, 0)
        replaced, more = self.mount("data"), self.mount("more")
        self.assertEqual((replaced.path / "file").read_text(), "here")
        self.verify_read(mount, more, passes=1)
        after = self.scrape()
        read = {volume: after.value("cached_origin_read_bytes_total", volume=volume) for volume in ("data", "more")}
        self.assertGreater(read["data"], before.value("cached_origin_read_bytes_total", volume="data"))
        self.assertGreater(read["more"], 0)
        self.assertEqual(after.value("cached_sessions", volume="data"), 2)
        self.assertEqual(after.value("cached_sessions", volume="more"), 1)
        self.assertEqual(after.value("cached_sessions_limit"), 77)
        self.check_series(after)

    def test_what_is_read_ahead_is_used_or_wasted(self):
        big = self.source / "big"
        big.write_bytes(bytes(range(256)) * (48 << 12))
        self.settle()
        self.start_daemon(memory="64MiB")
        mount = self.mount()
        with open(mount.path / "big", "rb", buffering=0) as stream:
            for _ in range(48):  # all of it: what is ahead of a stream that stops is used by nobody
                stream.read(1 << 20)
        scrape = self.scrape()
        ahead = scrape.value("cached_prefetch_bytes_total")
        self.assertGreater(ahead, 4 << 20)
        wait_until(lambda: self.scrape().value("cached_prefetch_used_bytes_total") > ahead / 2, START_TIMEOUT_S,
                   "what a stream read ahead counts as used")
        used, wasted = (self.scrape().value(f"cached_prefetch_{what}_bytes_total") for what in ("used", "wasted"))
        self.assertLessEqual(used + wasted, self.scrape().value("cached_prefetch_bytes_total"))

    def test_the_heap_is_shown_by_its_allocators_figures(self):
        self.start_everything()
        scrape = self.scrape()
        allocated, mapped = (scrape.value(f"cached_heap_{what}_bytes") for what in ("allocated", "mapped"))
        self.assertGreater(allocated, 100_000)
        self.assertGreaterEqual(mapped, allocated)

    def test_dashboard_and_alerts_name_metrics_of_a_scrape(self):
        table = table_of(self.manual())
        self.start_everything()
        shown = set(self.scrape().types)
        named = self.names_in_config()
        self.assertGreater(len(named), 40)
        unknown = {(place, name) for place, name in named if without_suffix(name, table) not in shown}
        self.assertEqual(unknown, set())

    def test_promtool_accepts_rules_and_scrape(self):
        if shutil.which("promtool") is None:
            self.skipTest("promtool is not installed (package prometheus)")
        done = subprocess.run(["promtool", "check", "rules", str(CONFIG / "alerts.yml")], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.start_everything()
        ours = "\n".join(line for line in self.scrape().text.splitlines() if "exposer_" not in line)
        done = subprocess.run(["promtool", "check", "metrics"], input=ours + "\n", capture_output=True, text=True,
                              check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_the_manual_is_the_table(self):
        self.assertEqual((CONFIG / "METRICS.md").read_text(), self.manual())

    def test_a_busy_address_is_refused_by_name(self):
        text = self.config_text()
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", self.port))
            busy.listen()
            config = self.root / "busy.toml"
            config.write_text(text)
            status, line = self.run_to_failure([self.program("cached"), "--config", str(config), "--foreground"])
        self.assertEqual(status, 1)
        self.assertIn("metrics.listen", line)
        self.assertIn(str(self.port), line)


class NoMetricsTest(SystemTest):
    def test_nothing_listens_unless_it_is_configured(self):
        self.start_daemon()
        listening = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout
        self.assertNotIn(f"pid={self.daemon.process.pid},", listening)


if __name__ == "__main__":
    unittest.main()
