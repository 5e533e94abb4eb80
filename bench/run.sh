#!/bin/sh
# Runs cases of the benchmark and writes their lines into bench/RESULTS.md: sudo ./bench/run.sh CASE... | --all | --list
cd "$(dirname "$0")/.." && exec python3 -B bench/cases.py "$@"
