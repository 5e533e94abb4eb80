"""Harness of the system tests: starts real daemons and mounts, and makes sure that nothing is left of them.

A test derives from SystemTest and uses start_daemon(), mount(), make_tree(), verify() and status(). Everything that a
test starts is ended by its pid when the test is over, however it ends; then the harness checks that no process, no mount
and no socket is left, that ends were clean, and that no sanitizer complained.

Environment: CACHED_BIN_DIR, the build directory (searched for the programs); CACHED_TEST_DIR, where data goes
(default /tmp; a disk file system, because page-cache and O_DIRECT behaviour is part of what is tested).
"""

import contextlib
import ctypes
import errno
import faulthandler
import json
import mmap
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PROGRAMS = ("cached", "cached-mount", "cachedctl", "cached-verify", "cached-slowfs", "cached-bench")
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20
# A hung mount hangs the test in a system call that nothing but the mount's death ends. ctest's timeout is longer.
WATCHDOG_S = int(os.environ.get("CACHED_TEST_WATCHDOG_S", "270"))
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:")
NOBODY = 65534
PAGE_BYTES = 4096
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def find_programs():
    """Maps the name of each program to its path below CACHED_BIN_DIR."""
    top = os.environ.get("CACHED_BIN_DIR")
    if not top:
        raise RuntimeError("set CACHED_BIN_DIR to the build directory")
    found = {}
    for directory, _, names in os.walk(top):
        for name in PROGRAMS:
            path = os.path.join(directory, name)
            if name in names and os.access(path, os.X_OK):
                found[name] = path
    return found


def die_with_parent():
    """Runs in a child before exec: a test that is killed takes its daemons and mounts with it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def mounts_below(directory):
    """Mount points at or below `directory`, innermost first."""
    points = []
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = line.split()[1].replace("\\040", " ")
            if point == str(directory) or point.startswith(str(directory) + "/"):
                points.append(point)
    return points[::-1]


def process_is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as status:
            return status.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def stop_process(pid):
    """SIGSTOP, and returns when no thread of the process runs any more: a signal that was sent is not one that took effect."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state in "TZX" for state in thread_states(pid)), 30, f"process {pid} stands still")


def thread_states(pid):
    states = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread ended meanwhile
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return states


def wait_until(condition, timeout_s, what):
    """Polls until `condition` is true; fails with `what` after the timeout. Returns the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout_s:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.01)
    return time.monotonic() - begin


def read_direct(path, offset=0, length=1 << 20):
    """One O_DIRECT read: past the kernel's page cache, so that the mount is asked."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, length) as buffer:
            count = os.preadv(descriptor, [buffer], offset)
            return buffer[:count]
    finally:
        os.close(descriptor)


def resident_bytes(path):
    """How much of a file lies in the kernel's page cache, by mincore(); does not change it."""
    size = os.path.getsize(path)
    if size == 0:
        return 0
    pages = (size + PAGE_BYTES - 1) // PAGE_BYTES
    vector = (ctypes.c_ubyte * pages)()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), f"mmap of {path}")
        try:
            if libc.mincore(address, size, ctypes.byref(vector)) != 0:
                raise OSError(ctypes.get_errno(), f"mincore of {path}")
        finally:
            libc.munmap(address, size)
    finally:
        os.close(descriptor)
    return sum(page & 1 for page in vector) * PAGE_BYTES


def drop_from_page_cache(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def cpu_ticks(pid):
    """User and system time of a process, all its threads, in clock ticks."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as status:
        fields = status.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def regular_files(directory):
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield path


class Daemon:
    """One configured daemon, running or not."""

    def __init__(self, test, name, config_text, uid):
        self.test = test
        self.name = name
        self.config = test.root / f"{name}.toml"
        self.config.write_text(config_text)
        self.socket = test.root / f"{name}.sock"
        self.control_socket = test.root / f"{name}.ctl"
        self.uid = uid
        self.process = None

    def start(self):
        """Starts it and waits until it answers on both sockets."""
        self.process = self.test.start_process(
            self.name, [self.test.program("cached"), "--config", str(self.config), "--foreground"], uid=self.uid)

        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with status {self.process.returncode} instead of serving")
            return self.socket.exists() and self.control("status").returncode == 0

        wait_until(answers, START_TIMEOUT_S, "the daemon answers on its control socket")

    def control(self, *arguments):
        """Runs cachedctl; returns the finished process with its output as text."""
        return subprocess.run([self.test.program("cachedctl"), "--socket", str(self.control_socket), *arguments],
                              capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)

    def kill(self):
        """SIGKILL: no chance to clean up."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self.test.forget(self.process)

    def terminate(self):
        """SIGTERM, and waits for an end that must be clean."""
        self.process.terminate()
        status = self.process.wait(STOP_TIMEOUT_S)
        self.test.forget(self.process)
        self.test.assertEqual(status, 0, "the daemon's exit status after SIGTERM")

    def running(self):
        return self.process is not None and self.process.poll() is None


class Mount:
    """One mount and the process that serves it."""

    def __init__(self, test, path, process):
        self.test = test
        self.path = path
        self.process = process

    def is_mounted(self):
        return str(self.path) in mounts_below(self.path)

    def unmount(self):
        subprocess.run(["umount", str(self.path)], check=True, timeout=STOP_TIMEOUT_S)
        status = self.process.wait(STOP_TIMEOUT_S)
        self.test.forget(self.process)
        self.test.assertEqual(status, 0, "the mount's exit status after umount")


class SystemTest(unittest.TestCase):
    """Base of all system tests; see the module's text."""

    maxDiff = None
    memory = "256MiB"

    @classmethod
    def setUpClass(cls):
        cls.programs = find_programs()
        if os.geteuid() != 0:
            raise unittest.SkipTest("needs root: mounts and other users are part of the tests")
        if not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("needs /dev/fuse: load the kernel's fuse module")
        try:
            with open("/proc/sys/kernel/io_uring_disabled", encoding="ascii") as setting:
                if setting.read().strip() == "2":
                    raise unittest.SkipTest("io_uring is disabled on this machine (kernel.io_uring_disabled=2)")
        except FileNotFoundError:
            pass

    def program(self, name):
        if name not in self.programs:
            self.skipTest(f"{name} is not built below {os.environ['CACHED_BIN_DIR']}")
        return self.programs[name]

    # -- life of a test ---------------------------------------------------------------------------------------------

    def setUp(self):
        base = os.environ.get("CACHED_TEST_DIR", "/tmp")
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="cached-", dir=base))
        self.root.chmod(0o755)  # other users walk through it
        self.source = self.root / "source"
        self.source.mkdir()
        self.manifest = self.root / "manifest"
        self.daemon = None
        self.mounts = []
        self.processes = {}      # running Popen -> its log file
        self.logs = []
        self.counter = 0
        # Before any cleanup that a test adds, so that it runs after them.
        self.addCleanup(self._end_everything)
        self.watchdog = threading.Timer(WATCHDOG_S, self._emergency)
        self.watchdog.daemon = True
        self.watchdog.start()

    def run(self, result=None):
        trouble_before = len(result.failures) + len(result.errors) if result is not None else 0
        super().run(result)
        if result is not None and hasattr(self, "root"):
            if len(result.failures) + len(result.errors) > trouble_before:
                self._print_logs()
            shutil.rmtree(self.root, ignore_errors=True)
        return result

    def _print_logs(self):
        for log in self.logs:
            lines = log.read_text(errors="replace").splitlines()
            print(f"--- {log.name}: last of {len(lines)} lines", file=sys.stderr)
            print("\n".join(lines[-40:]), file=sys.stderr)

    def _emergency(self):
        print(f"the test hangs for {WATCHDOG_S} s; killing what it started", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        for process in list(self.processes):
            process.kill()
        for point in mounts_below(self.root):
            subprocess.run(["umount", "-l", point], check=False)

    def _end_everything(self):
        """Ends what still runs, innermost first, and fails the test if anything ended badly or is left."""
        trouble = []
        for mount in self.mounts:
            if mount.is_mounted() and subprocess.run(["umount", str(mount.path)], check=False, capture_output=True,
                                                     timeout=STOP_TIMEOUT_S).returncode != 0:
                trouble.append(f"{mount.path} could not be unmounted: it is busy")
                subprocess.run(["umount", "-l", str(mount.path)], check=False)
        for mount in self.mounts:
            self._wait_for_end(mount.process, "mount", trouble)
        for process in list(self.processes):
            process.terminate()
            self._wait_for_end(process, "daemon or reader", trouble)
        for point in mounts_below(self.root):
            trouble.append(f"mount left: {point}")
            subprocess.run(["umount", "-l", point], check=False)
        trouble += [f"socket left: {path}" for path in self.root.iterdir()
                    if stat.S_ISSOCK(path.lstat().st_mode)]
        for log in self.logs:
            text = log.read_text(errors="replace")
            trouble += [f"{log.name}: {mark}" for mark in SANITIZER_MARKS if mark in text]
        self.watchdog.cancel()
        if trouble:
            raise AssertionError("; ".join(trouble))

    def _wait_for_end(self, process, what, trouble):
        if process not in self.processes:
            return
        try:
            status = process.wait(STOP_TIMEOUT_S)
            if status != 0:
                trouble.append(f"a {what} ended with status {status} (log {self.processes[process].name})")
        except subprocess.TimeoutExpired:
            trouble.append(f"a {what} did not end within {STOP_TIMEOUT_S} s (pid {process.pid}); killed")
            process.kill()
            process.wait()
        self.forget(process)

    def forget(self, process):
        """The test has ended this process itself and has looked at how it ended."""
        self.processes.pop(process, None)

    def start_process(self, name, command, uid=None, stdout=None):
        """Starts a process that the harness ends at the latest with the test. From the main thread only: the kernel
        ends a process with the thread that started it."""
        self.counter += 1
        log = self.root / f"log-{self.counter:02}-{name}"
        self.logs.append(log)

        def prepare():
            die_with_parent()
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                die_with_parent()  # a change of uid clears it

        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout or output, stderr=output,
                                       preexec_fn=prepare)
        self.processes[process] = log
        return process

    # -- what tests are made of -------------------------------------------------------------------------------------

    def make_tree(self, **options):
        """A tree of verifiable files at the source. Returns its size in bytes."""
        arguments = {"seed": 1, "small": 150, "dirs": 6, "large": 2, "large_size": "8MiB"} | options
        command = [self.program("cached-verify"), "make", str(self.source), "--manifest", str(self.manifest)]
        for key, value in arguments.items():
            command.append("--" + key.replace("_", "-"))
            if value is not True:
                command.append(str(value))
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(made.stdout)["bytes"]

    def write(self, name, content=b"content\n", mode=0o644):
        """A file at the source, with the directories above it. Returns its path."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def write_varied_tree(self):
        """Files and directories of many sizes, modes, owners, times and link counts at the source."""
        self.write("plain")
        self.write("empty", b"")
        self.write("deep/er/and/deep/er/file", b"x" * 5000)
        for mode in (0o000, 0o4755, 0o2750, 0o1777, 0o640):
            self.write(f"modes/{mode:o}", mode=mode)
        os.chown(self.write("owned"), 1234, 5678)
        os.utime(self.write("dated"), ns=(1_000_000_000_123_456_789, 1_234_567_890_987_654_321))
        os.utime(self.write("before-1970"), ns=(-5_000_000_000, -5_000_000_001))
        os.link(self.write("linked"), self.source / "deep/second-name")
        (self.source / "sticky").mkdir(mode=0o1777)

    def settle(self):
        """Waits until files made just now are older than the default settle_ms. Before that they have identities that no
        revalidation outlives, so what is cached of them is fetched again."""
        time.sleep(2.1)

    def config_text(self, name="cached", memory=None, shards=1, settle_ms=2000, volumes=None, devices=(),
                    device_timeout_ms=1000):
        text = (f'[daemon]\nsocket = "{self.root}/{name}.sock"\ncontrol_socket = "{self.root}/{name}.ctl"\n'
                f'state_dir = "{self.root}/{name}.state"\ngroup = ""\nshards = {shards}\n'
                f'[memory]\nsize = "{memory or self.memory}"\n')
        for volume, source in (volumes or {"data": self.source}).items():
            text += f'[[volume]]\nname = "{volume}"\nsource = "dir:{source}"\nsettle_ms = {settle_ms}\n'
        for path, size in devices:
            text += f'[[device]]\npath = "{path}"\n' + (f'size = "{size}"\n' if size else "")
        if devices:
            text += f"[ssd]\ndevice_timeout_ms = {device_timeout_ms}\n"
        return text

    def start_daemon(self, name="cached", uid=None, **config):
        """Starts a daemon; the first one is self.daemon."""
        daemon = Daemon(self, name, self.config_text(name, **config), uid)
        daemon.start()
        self.daemon = self.daemon or daemon
        return daemon

    def mount_command(self, volume, path, *flags, daemon=None, **options):
        """The command line of a mount. Options: daemon_timeout=3 and so on; attr_timeout goes for names as well."""
        chosen = {"socket": (daemon or self.daemon).socket, "allow_other": True} | options
        if "attr_timeout" in options:
            chosen.setdefault("entry_timeout", options["attr_timeout"])
        text = ",".join(key if value is True else f"{key}={value}" for key, value in chosen.items())
        return [self.program("cached-mount"), volume, str(path), "-o", text, *flags]

    def mount(self, volume="data", daemon=None, **options):
        """Mounts a volume in the foreground and waits until it is there."""
        path = self.root / f"mnt{len(self.mounts)}"
        path.mkdir()
        process = self.start_process("mount", self.mount_command(volume, path, "-f", daemon=daemon, **options))
        mount = Mount(self, path, process)
        self.mounts.append(mount)

        def mounted():
            if process.poll() is not None:
                raise AssertionError(f"cached-mount ended with status {process.returncode} instead of serving")
            return mount.is_mounted()

        wait_until(mounted, START_TIMEOUT_S, "the volume is mounted")
        return mount

    def start_with_tree(self, **options):
        """The usual beginning: a tree, a daemon, one mount. Returns the mount."""
        self.make_tree(**options)
        self.start_daemon()
        return self.mount()

    def start_verify(self, *arguments):
        """Starts cached-verify; finish_verify() waits for it and gives its report."""
        output = open(self.root / f"report-{self.counter}", "w+b")
        process = self.start_process("verify", [self.program("cached-verify"), *map(str, arguments)], stdout=output)
        process.report = output
        return process

    def finish_verify(self, process, timeout_s=WATCHDOG_S):
        status = process.wait(timeout_s)
        log = self.processes[process].read_text(errors="replace")
        self.forget(process)
        process.report.seek(0)
        text = process.report.read()
        process.report.close()
        self.assertEqual(status, 0, f"cached-verify found errors:\n{log[:4000]}")
        return json.loads(text)

    def verify(self, *arguments):
        """Runs cached-verify; the test fails unless every read was right. Returns its report."""
        return self.finish_verify(self.start_verify(*arguments))

    def verify_read(self, *mounts, **options):
        """Reads one or several mounts: verify_read(m, passes=1, mode="direct,whole")."""
        command = ["read", *(mount.path for mount in mounts), "--manifest", self.manifest]
        for key, value in options.items():
            command += ["--" + key.replace("_", "-"), value]
        return self.verify(*command)

    def status(self, daemon=None):
        done = (daemon or self.daemon).control("status", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def data_sets(self):
        """What `cachedctl du` says of each data set, by name."""
        done = self.daemon.control("du", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return {entry["name"]: entry for entry in json.loads(done.stdout)["data_sets"]}

    def job(self, *arguments, status=0):
        """Runs a command of cachedctl that is a job, and returns how it ended."""
        done = self.daemon.control(*arguments, "--json")
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return json.loads(done.stdout)["jobs"][-1]

    def devices(self):
        """The daemon's SSDs, as cachedctl shows them."""
        done = self.daemon.control("devices", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["devices"]

    def wait_for_devices(self, state="healthy"):
        wait_until(lambda: all(device["state"] == state for device in self.devices()), START_TIMEOUT_S,
                   f"all devices are {state}")

    def sessions(self):
        done = self.daemon.control("sessions", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.loads(done.stdout)
        return answer["sessions"] if isinstance(answer, dict) else answer

    def run_to_failure(self, command, timeout_s=START_TIMEOUT_S):
        """Runs a command that must fail with one clear line on stderr. Returns (status, line)."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        self.assertNotEqual(done.returncode, 0, f"{command} succeeded")
        self.assertGreater(done.returncode, 0, f"{command} died of signal {-done.returncode}")
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, f"not one line:\n{done.stderr}")
        return done.returncode, lines[0]

    def as_user(self, uid, gid, function):
        """Calls `function` in a child process as another user. Returns its errno, or 0."""
        child = os.fork()
        if child == 0:
            status = 255
            try:
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
                function()
                status = 0
            except OSError as error:
                status = error.errno
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def assert_errno(self, expected, function, *arguments):
        try:
            function(*arguments)
        except OSError as error:
            self.assertEqual(errno.errorcode[error.errno], errno.errorcode[expected], f"{error}")
            return
        self.fail(f"succeeded instead of failing with {errno.errorcode[expected]}: {function} {arguments}")
