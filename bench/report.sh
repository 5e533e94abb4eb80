#!/bin/sh
# Runs the benchmark's cases and writes bench/RESULTS.md and one HTML page: sudo ./bench/report.sh [--only CASE...]
cd "$(dirname "$0")/.." && exec python3 -B bench/report_cases.py "$@"
