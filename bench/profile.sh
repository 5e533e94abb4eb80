#!/bin/sh
# Shows where daemon and mount spend their CPU time under a load: sudo ./bench/profile.sh WORKLOAD | CASE
cd "$(dirname "$0")/.." && exec python3 -B bench/profile_load.py "$@"
