"""What every case needs: binaries, daemon, mounts, turns, the result line and bench/RESULTS.md.

Whatever a case starts it starts through Bench, which ends it: in reverse order, by its own process id, also when the
case fails or is interrupted.
"""

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from data_sets import prepare_data
from proc import machine

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "bench" / "RESULTS.md"
PROGRAMS = ("cached", "cached-mount", "cachedctl", "cached-bench", "cached-nullfs", "cached-ssd-bench", "cached-hazard-bench",
            "cached-rados-loop", "cached-verify")
MINIMUM_RUNS = 5
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 15
BUSY_LOAD = 0.5  # for each core
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BenchError(Exception):
    """A case could not be measured; the message is for the user."""


class NotRun(BenchError):
    """A case lacks something that only the user can give; the message says what."""


@dataclasses.dataclass
class Result:
    """The one line of a case. The ratio is that of the medians; `spread` is (largest - smallest) / median of the
    ratios of the single turns, `ratios`, in percent."""

    case: str
    ratio: float
    cached: float
    floor: float
    unit: str
    spread: float
    runs: int
    ratios: list

    def line(self):
        return (f"{self.case}: ratio {self.ratio:.3f} (cached {short(self.cached)} {self.unit}, "
                f"floor {short(self.floor)} {self.unit}, spread {self.spread:.0f} %, {self.runs} runs)")


def short(value):
    """Four digits that matter, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def result_of(case, unit, cached, floor):
    """The result of samples of both sides, taken in turns."""
    ratios = [c / f for c, f in zip(cached, floor)]
    middle = statistics.median(ratios)
    spread = 100 * (max(ratios) - min(ratios)) / middle if middle else 0
    return Result(case, statistics.median(cached) / statistics.median(floor), statistics.median(cached),
                  statistics.median(floor), unit, spread, len(ratios), ratios)


CASES = []


def case(name, target):
    """Registers a function as a case; the first line of its text is what --list prints."""
    def add(function):
        CASES.append(Case(name, target, function))
        return function
    return add


def in_turns(runs, cached, floor):
    """Calls both functions `runs` times, and lets the other go first every second time. Returns both lists."""
    samples = ([], [])
    for turn in range(runs):
        pair = [(samples[0], cached), (samples[1], floor)]
        for values, measure in reversed(pair) if turn % 2 else pair:
            values.append(measure())
    return samples


class Process:
    """A child of ours, its output in a file; ended by its process id."""

    def __init__(self, name, command, log):
        self.name, self.command, self.log = name, [str(part) for part in command], log
        # A session of its own: Ctrl-C reaches us alone, and we end the children in order.
        with open(log, "wb") as output:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output,
                                          stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def pid(self):
        return self.child.pid

    def wait_until(self, ready, what):
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            if self.child.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.child.returncode} before {what}: "
                                 f"{' '.join(self.command)}\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: {what} took over {START_TIMEOUT_S} s\n{self.log_end()}")
            time.sleep(0.02)

    def log_end(self):
        return pathlib.Path(self.log).read_text(errors="replace")[-2000:]

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
        try:
            self.child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"  {self.name} (pid {self.pid}) did not end on SIGTERM: killed")
            self.child.kill()
            self.child.wait()


class Mount(Process):
    """A FUSE server in the foreground and its mount point."""

    def __init__(self, name, command, log, path):
        super().__init__(name, command, log)
        self.path = path

    def stop(self):
        for command in (["umount", self.path], ["umount", "-l", self.path]):
            if not os.path.ismount(self.path):
                break
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
        # It ends by itself once it is unmounted; SIGTERM is for one that does not.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(2)
        super().stop()


class Daemon(Process):
    """A cached in a directory of its own, which has its configuration and its sockets."""

    def __init__(self, bench, home, log):
        super().__init__("cached", [bench.program("cached"), "--config", home / "cached.toml", "--foreground"], log)
        self.bench, self.home = bench, home
        self.socket, self.control = home / "socket", home / "control"

    def ask(self, command):
        """What `cachedctl COMMAND` says."""
        line = [self.bench.program("cachedctl"), "--socket", self.control, command, "--json"]
        return json.loads(subprocess.run(line, check=True, capture_output=True, timeout=START_TIMEOUT_S).stdout)

    def status(self):
        return self.ask("status")

    def devices(self):
        return self.ask("devices")["devices"]

    def devices_ready(self):
        return all(device["state"] == "healthy" for device in self.devices())

    def answers(self):
        try:
            return bool(self.status())
        except (subprocess.SubprocessError, ValueError):
            return False

    def origin_bytes(self):
        return self.status()["origin"]["read_bytes"]

    @contextlib.contextmanager
    def all_from_memory(self):
        """What is measured inside must not reach the origin: else it is not a case of hits."""
        before = self.origin_bytes()
        yield
        if (read := self.origin_bytes() - before) != 0:
            raise BenchError(f"the origin was read during the measurement ({read} bytes): not all was in memory")


class Bench:
    """One case's surroundings: a directory, the binaries, and what was started."""

    def __init__(self, case, directory, build, runs=None, juicefs=None):
        self.case, self.data_directory, self.build = case, directory / "data", build
        self.asked_runs, self.juicefs = runs, juicefs
        self.servers = {}  # of cached that were started, by their process ids: "cached" or "cached-mount"
        self.notes = []    # what belongs to the result besides its line
        self.owner = os.getpid()  # whose end ends what is not our child
        self.threads = max(4, min(16, os.cpu_count() or 1))
        self.stack = contextlib.ExitStack()
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"{case}-", dir=directory))
        self.stack.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.started = 0

    def runs(self, default):
        """How many turns to take: what the user asked for, else the case's own number."""
        return max(MINIMUM_RUNS, self.asked_runs or default)

    @contextlib.contextmanager
    def scope(self):
        """What is started inside ends at its end."""
        outer, self.stack = self.stack, contextlib.ExitStack()
        try:
            with self.stack:
                yield
        finally:
            self.stack = outer

    def note(self, text):
        """Prints a line that the report shows with the result."""
        print(f"  {text}", flush=True)
        self.notes.append(text)

    def program(self, name):
        found = find_program(self.build, name)
        if found is None:
            raise BenchError(f"no program {name} below {self.build}")
        return found

    def new_path(self, name):
        """A path in this case's directory that nothing has yet."""
        self.started += 1
        return self.work / f"{name}-{self.started}"

    def _stop_at_end(self, process):
        self.stack.callback(process.stop)
        return process

    def data(self, name):
        """The data set `name`, made if it is not there: (directory, list of its files)."""
        return prepare_data(self.data_directory, name)

    def data_in_memory(self, name):
        """The same in a tmpfs, made anew and gone at the end of the case: a source that is as fast as memory."""
        home = pathlib.Path(tempfile.mkdtemp(prefix="cached-bench-", dir="/dev/shm"))
        self.stack.callback(shutil.rmtree, home, ignore_errors=True)
        return prepare_data(home, name)

    def daemon(self, source, memory, devices=(), sections="", name_entries=None, **more_sources):
        """A daemon with the volume `data`, and one for each further source: a directory, or the keys of a [[volume]].
        `devices`: (path, bytes) of files; `sections`: more of the configuration."""
        home = self.new_path("cached")
        (home / "state").mkdir(parents=True)
        text = (f'[daemon]\nsocket = "{home}/socket"\ncontrol_socket = "{home}/control"\nstate_dir = "{home}/state"\n'
                f'shards = 1\n\n[memory]\nsize = "{memory}"\n')
        if name_entries is not None:
            text += f"name_entries = {name_entries}\n"
        for path, size_bytes in devices:
            text += f'\n[[device]]\npath = "{path}"\nsize = "{size_bytes}"\n'
        for name, place in {"data": source, **more_sources}.items():
            text += "\n" + volume_section(name, place if isinstance(place, dict) else {"source": f"dir:{place}"})
        (home / "cached.toml").write_text(text + sections)
        daemon = self.start_daemon(home)
        daemon.wait_until(daemon.devices_ready, "its devices were ready")
        return daemon

    def start_daemon(self, home):
        """The daemon of this directory, started (again): until its control socket answers."""
        daemon = self._stop_at_end(Daemon(self, home, self.new_path("cached").with_suffix(".log")))
        self.servers[daemon.pid] = daemon.name
        daemon.wait_until(daemon.answers, "its control socket answered")
        return daemon

    def start_mount(self, name, command, path):
        """A FUSE server of whatever kind, until its mount is there."""
        path.mkdir()
        mount = self._stop_at_end(Mount(name, command, path.with_suffix(".log"), path))
        mount.wait_until(lambda: os.path.ismount(path), "its mount was there")
        return mount

    def mount(self, daemon, volume="data", threads=None, timeout_s=3600):
        path = self.new_path("mount")
        options = f"socket={daemon.socket},attr_timeout={timeout_s},entry_timeout={timeout_s},threads={threads or self.threads}"
        mount = self.start_mount("cached-mount", [self.program("cached-mount"), volume, path, "-o", options, "-f"], path)
        self.servers[mount.pid] = mount.name
        return mount

    def null_mount(self, file_list, memory):
        """A null file system with the same tree, buffer, threads and timeouts."""
        path = self.new_path("nullfs")
        return self.start_mount("cached-nullfs", [self.program("cached-nullfs"), path, "--arena", memory, "--tree", file_list,
                                                  "--threads", self.threads, "--attr-timeout", 3600, "--entry-timeout", 3600,
                                                  "--keep-cache"], path)

    def start_load(self, *arguments):
        """Starts cached-bench; load_result() waits for it."""
        command = [str(part) for part in (self.program("cached-bench"), *arguments, "--output-format=json")]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 start_new_session=True)
        self.stack.callback(end_child, child)
        return child

    def load(self, *arguments):
        """Runs cached-bench; returns the jobs of its JSON."""
        return load_result(self.start_load(*arguments))


def volume_section(name, keys):
    """A [[volume]] of a configuration."""
    values = {key: value if isinstance(value, int) else json.dumps(str(value)) for key, value in {"name": name, **keys}.items()}
    return "[[volume]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def output_of(command, timeout_s=None):
    """Runs a command to its end; returns what it wrote to stdout."""
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=timeout_s)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(done.args)}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout


def end_child(child):
    if child.poll() is None:
        child.kill()
        child.wait()


def load_result(child):
    output, errors = child.communicate()
    if child.returncode != 0:
        raise BenchError(f"{' '.join(child.args)}: {errors.decode(errors='replace').strip()}")
    return json.loads(output)["jobs"]


def p50_us(job):
    return job["read"]["clat_ns"]["percentile"]["50.000000"] / 1000


def mb_per_s(job):
    return job["read"]["bw_bytes"] / 1e6


# The command ----------------------------------------------------------------------------------------------------------

def find_program(build, name):
    for path in sorted(build.rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def install_and_build():
    installer = REPOSITORY / "scripts" / "install-packages.sh"
    if installer.exists():
        subprocess.run([installer], check=True, cwd=REPOSITORY)
    subprocess.run(["cmake", "--preset", "release"], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", "--preset", "release", "--target", *PROGRAMS], check=True, cwd=REPOSITORY)
    return REPOSITORY / "build" / "release"


def record(result, target, command):
    """Puts the line into RESULTS.md in place of what this case had on this machine."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    cells = [result.case, result.line(), target, date, machine(), f"`{command}`"]
    head, rows = [], []
    for line in RESULTS.read_text().splitlines():
        (rows if line.startswith("| ") and not line.startswith("| case |") else head).append(line)
    same = (result.case, machine())
    rows = [row for row in rows if (row.split(" | ")[0][2:], row.split(" | ")[4]) != same]
    rows.append("| " + " | ".join(cells) + " |")
    new = RESULTS.with_suffix(".new")
    new.write_text("\n".join(head + sorted(rows)) + "\n")
    new.replace(RESULTS)


def command_of(case, arguments):
    """What gives this case's line again, with the options that were given; a peer's program by its name alone."""
    options = [f"--{name}={value}" for name in ("runs", "build") if (value := getattr(arguments, name)) is not None]
    if case.group == "peer-juicefs":
        options.append(f"--juicefs={pathlib.Path(arguments.juicefs).name}")
    return "sudo " + shlex.join(["./bench/run.sh", *options, case.name])


@contextlib.contextmanager
def benchmark_directory():
    """Where data sets and what is made for a case go; for one benchmark at a time."""
    directory = pathlib.Path(os.environ.get("CACHED_BENCH_DIR", "/var/tmp/cached-bench"))
    (directory / "data").mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchError(f"another benchmark runs in {directory}; wait for it or set CACHED_BENCH_DIR") from error
        yield directory


@dataclasses.dataclass
class Case:
    name: str
    target: str
    function: object

    @property
    def text(self):
        return self.function.__doc__.splitlines()[0].rstrip(".")

    @property
    def subject(self):
        """What the case's module is about: the first line of its text."""
        text = sys.modules[self.function.__module__].__doc__.splitlines()[0].rstrip(".")
        return text.removeprefix("Cases of ").removeprefix("the ").partition(":")[0].partition(",")[0]

    @property
    def group(self):
        """A name for this case and those that are like it: cases of one peer have names peer-NAME-WHAT."""
        return "-".join(self.name.split("-")[:2]) if self.name.startswith("peer-") else None


@dataclasses.dataclass
class Outcome:
    """What became of a case: a result, or why there is none."""

    case: Case
    load_average: float
    result: Result = None
    notes: list = dataclasses.field(default_factory=list)
    not_run: str = ""  # it lacks what the user has not given
    failed: str = ""


def run_case(case, arguments, build):
    with benchmark_directory() as directory:
        bench = Bench(case.name, directory, build, arguments.runs, arguments.juicefs)
        outcome = Outcome(case, os.getloadavg()[0], notes=bench.notes)
        print(f"{case.name}: {case.text}; target {case.target}", flush=True)
        if outcome.load_average > BUSY_LOAD * os.cpu_count():
            print(f"  the machine is busy (load average {outcome.load_average:.1f}): the spread will be wide, the median "
                  "uncertain")
        with bench.stack:
            outcome.result = case.function(bench)
    record(outcome.result, case.target, command_of(case, arguments))
    print(outcome.result.line(), flush=True)
    return outcome


def try_case(case, arguments, build):
    """The same; a case that cannot be measured is said on stderr and in the outcome."""
    outcome = Outcome(case, os.getloadavg()[0])
    try:
        return run_case(case, arguments, build)
    except NotRun as error:
        outcome.not_run = str(error)
        print(f"{case.name}: not run: {error}", file=sys.stderr, flush=True)
    except (BenchError, OSError, KeyError, subprocess.SubprocessError) as error:
        outcome.failed = str(error)
        print(f"{case.name}: not measured: {error}", file=sys.stderr, flush=True)
    return outcome


def interrupt(*_):
    """The first signal ends the case; no second one may disturb the cleaning up."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def add_options(parser):
    """What every command that runs cases understands."""
    parser.add_argument("--runs", type=int,
                        help=f"turns for each case, at least {MINIMUM_RUNS} (default: the case's own number)")
    parser.add_argument("--build", type=pathlib.Path, help="take the programs below this directory and build nothing")
    parser.add_argument("--juicefs", metavar="BINARY", default=os.environ.get("CACHED_JUICEFS"),
                        help="the JuiceFS client, with its Ceph store, of the cases peer-juicefs-* (default: $CACHED_JUICEFS)")


def cases_named(parser, names):
    """The cases of these names; a name may be that of a group."""
    known = {name for case in CASES for name in (case.name, case.group)}
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no case {', '.join(unknown)}; bench/run.sh --list names them all")
    return [case for case in CASES if case.name in names or case.group in names]


def check_root(parser):
    if os.geteuid() != 0:
        parser.error("mounts need root: use sudo")


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh", description="Measures cached against its floors.")
    parser.add_argument("case", nargs="*",
                        help="cases to run; peer-rclone, peer-juicefs and peer-cephfuse are all cases of that peer")
    parser.add_argument("--all", action="store_true", help="run all cases")
    parser.add_argument("--list", action="store_true", help="name all cases, with what they measure and the target")
    add_options(parser)
    arguments = parser.parse_args()
    if arguments.list:
        for case in CASES:
            print(f"{case.name:28} {case.text}; target {case.target}")
        return 0
    chosen = CASES if arguments.all else cases_named(parser, arguments.case)
    if not chosen:
        parser.error("name a case, or give --all or --list")
    check_root(parser)
    status, _ = run_cases(chosen, arguments)
    return status


def end_in_order():
    """From now on a signal ends what runs as an error would, so that all that was started is ended."""
    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)


def run_cases(cases, arguments):
    """(status, outcomes); the status is 0: all were measured; 1: one was not; 130: interrupted."""
    end_in_order()
    outcomes = []
    try:
        build = arguments.build or install_and_build()
        for case in cases:
            outcomes.append(try_case(case, arguments, build))
    except subprocess.CalledProcessError as error:
        print(f"cannot build: {error}", file=sys.stderr)
        return 1, outcomes
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130, outcomes
    return (0 if all(outcome.result for outcome in outcomes) else 1), outcomes
