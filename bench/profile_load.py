"""The command of bench/profile.sh: a load under perf, and of its samples those of the daemon and the mounts.

A workload is one of cached-bench's on a mount whose daemon has everything in memory (smallfiles-cold: nothing); a case of
bench/run.sh is recorded from its start to its end, with what it does to prepare itself. Kernel caches are dropped before each
pass of a workload.
"""

import argparse
import contextlib
import pathlib
import signal
import subprocess
import sys

import cases  # noqa: F401, registers all cases
from flame import flame_graph, stacks_of, table
from harness import (CASES, REPOSITORY, Bench, BenchError, add_options, benchmark_directory, check_root, end_in_order,
                     install_and_build)
from memory_cases import HOLDS_BIG, HOLDS_SMALL
from workload_cases import MEMORY, MOUNTS, lmdb_file, python_tree

FREQUENCY_HZ = 499  # not a divisor of what else happens at regular times
PERF_END_TIMEOUT_S = 60
TABLE_LINES_SHOWN = 25


def record(output):
    """perf, for all of the machine: the threads of processes that start later are seen as well."""
    command = ["perf", "record", "-a", "-e", "cpu-clock", "-F", FREQUENCY_HZ, "--call-graph", "fp", "-o", output]
    return subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)


@contextlib.contextmanager
def recording(output):
    child = record(output)
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(PERF_END_TIMEOUT_S)
    if not output.exists():
        raise BenchError("perf recorded nothing; does `perf record -a -e cpu-clock true` work here?")


# Workloads: each gives what to read, once it is in memory -------------------------------------------------------------------

def tree_load(workload):
    def prepare(bench, loops):
        source, _ = bench.data("small")
        mount = bench.mount(bench.daemon(source, HOLDS_SMALL))
        bench.load(workload, f"--directory={mount.path}")
        passes = f"--epochs={loops}" if workload == "epochs" else f"--loops={loops}"
        return [workload, f"--directory={mount.path}", "--drop_caches", passes]
    return prepare


def cold_load(bench, loops):
    source, _ = bench.data("small")
    mount = bench.mount(bench.daemon(source, HOLDS_SMALL))
    return ["smallfiles", f"--directory={mount.path}", "--order=directory", "--drop_caches", f"--loops={loops}"]


def lmdb_load(bench, loops):
    path = lmdb_file(bench)
    mount = bench.mount(bench.daemon(path.parent, MEMORY))
    bench.load(f"--filename={mount.path / path.name}", "--bs=1m", "--rw=read", "--direct")
    return ["lmdb", f"--filename={mount.path / path.name}", "--drop_caches", f"--loops={loops}"]


def import_load(bench, loops):
    tree = python_tree(bench)
    mount = bench.mount(bench.daemon(tree.parent, MEMORY))
    bench.load("import", f"--directory={mount.path / tree.name}")
    return ["import", f"--directory={mount.path / tree.name}", f"--loops={loops}"]


def shared_load(bench, loops):
    source, _ = bench.data("cold")
    daemon = bench.daemon(source, HOLDS_BIG)
    mounts = [bench.mount(daemon) for _ in range(MOUNTS)]
    directories = ":".join(str(mount.path) for mount in mounts)
    bench.load("shared", f"--directory={directories}")
    return ["shared", f"--directory={directories}", "--drop_caches", f"--loops={loops}"]


WORKLOADS = {"epochs": (tree_load("epochs"), 5), "smallfiles": (tree_load("smallfiles"), 5),
             "smallfiles-cold": (cold_load, 1), "lmdb": (lmdb_load, 5),
             "import": (import_load, 5), "shared": (shared_load, 5)}


# The command ----------------------------------------------------------------------------------------------------------------

def run_load(bench, name, data):
    """Runs the load and records it."""
    if name in WORKLOADS:
        prepare, loops = WORKLOADS[name]
        load = prepare(bench, loops)
        with recording(data):
            jobs = bench.load(*load)
        for job in jobs:
            print(f"  {job['jobname']}: {job['read']['total_ios']} {job['unit']} in {job['read']['runtime_ns'] / 1e9:.2f} s")
        return
    [case] = [case for case in CASES if case.name == name]
    with recording(data):
        print(f"  {case.function(bench).line()}")


def write_profile(data, servers, name, folder):
    """The samples of these processes, as table and graph. Returns the paths and the table."""
    command = ["perf", "script", "--no-inline", "-i", data, "-F", "comm,pid,tid,ip,sym,dso",
               f"--pid={','.join(map(str, servers))}"]
    script = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace")
    stacks = stacks_of(script.stdout.splitlines(), servers)
    if not stacks:
        raise BenchError(f"none of perf's samples in {data} is of daemon or mounts")
    lines = table(stacks)
    text, graph = folder / f"{name}.txt", folder / f"{name}.svg"
    text.write_text("\n".join(lines) + "\n")
    graph.write_text(flame_graph(stacks, f"cached and its mounts under {name}"))
    return text, graph, lines


def profile(arguments, build):
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    with benchmark_directory() as directory:
        bench = Bench(arguments.load, directory, build, arguments.runs, arguments.juicefs)
        data = bench.work / "perf.data"
        with bench.stack:
            run_load(bench, arguments.load, data)
            text, graph, lines = write_profile(data, bench.servers, arguments.load, folder)
    print("\n".join(lines[:TABLE_LINES_SHOWN]))
    print(f"all functions: {text}\nflame graph: {graph}")


def main():
    known = [*WORKLOADS, *(case.name for case in CASES if case.name not in WORKLOADS)]
    parser = argparse.ArgumentParser(prog="bench/profile.sh", description="Shows where daemon and mounts spend CPU time.")
    parser.add_argument("load", metavar="WORKLOAD", choices=known,
                        help=f"{', '.join(WORKLOADS)}, or another name that bench/run.sh --list tells")
    parser.add_argument("--output", type=pathlib.Path, default=REPOSITORY / "build" / "profile",
                        help="directory for table and graph (default: build/profile)")
    add_options(parser)
    arguments = parser.parse_args()
    check_root(parser)
    end_in_order()
    try:
        profile(arguments, arguments.build or install_and_build())
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(f"bench/profile.sh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
