"""The command of bench/report.sh: runs cases as bench/run.sh does, and writes what came of them as one HTML page."""

import argparse
import datetime
import pathlib
import shlex
import subprocess
import sys

import cases  # noqa: F401, registers all cases
from harness import CASES, REPOSITORY, add_options, cases_named, check_root, run_cases, short
from proc import machine
from report_html import page


def version():
    """The commit that is measured; empty where the sources are no repository."""
    command = ["git", "-c", f"safe.directory={REPOSITORY}", "-C", REPOSITORY, "describe", "--always", "--dirty"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(prog="bench/report.sh", description="Runs cases, writes RESULTS.md and a page.")
    parser.add_argument("--only", nargs="+", metavar="CASE", default=[], help="these cases or groups of cases alone")
    parser.add_argument("--output", type=pathlib.Path, default=REPOSITORY / "build" / "bench-report.html",
                        help="the page (default: build/bench-report.html)")
    add_options(parser)
    arguments = parser.parse_args()
    chosen = cases_named(parser, arguments.only) if arguments.only else CASES
    check_root(parser)
    begin = datetime.datetime.now(datetime.timezone.utc)
    status, outcomes = run_cases(chosen, arguments)
    if outcomes:
        facts = [("machine", machine()), ("date", f"{begin:%Y-%m-%d %H:%M} UTC"), ("commit", version() or "unknown"),
                 ("command", "sudo " + shlex.join(["./bench/report.sh", *sys.argv[1:]]))]
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(page(outcomes, facts, short))
        print(f"report: {arguments.output}")
    return status


if __name__ == "__main__":
    sys.exit(main())
