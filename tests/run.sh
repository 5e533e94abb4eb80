#!/bin/bash
# The tests, one command: sudo ./tests/run.sh [--fast]
#
# Installs what is missing, then builds and tests four times: under ThreadSanitizer (unit tests of what is concurrent),
# under AddressSanitizer and UBSan (unit tests and the system tests labelled `sanitizer`), the fuzzers (clang, a minute
# each), and last the release build with everything, so that the output ends with the summary of the main run. Any failure
# makes the exit status non-zero.
# --fast: the release build alone, without the tests labelled `slow`.
set -uo pipefail
cd "$(dirname "$0")/.."

fast=0
case "${1:-}" in
  "") ;;
  --fast) fast=1 ;;
  *) echo "usage: sudo $0 [--fast]" >&2; exit 2 ;;
esac
if (( EUID != 0 )); then
  echo "$0: run it as root: system tests mount file systems and read as other users" >&2
  exit 2
fi
./scripts/install-packages.sh || exit 1
[[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null
if [[ ! -e /dev/fuse ]]; then
  echo "$0: /dev/fuse is not there: load the kernel's fuse module (in a container: pass the device in);" \
       "the system tests will be skipped" >&2
fi

jobs=$(nproc)
failed=()

# build PRESET [TARGETS]
build() {
  echo "== building $1"
  cmake --preset "$1" >"build/$1.configure.log" 2>&1 || { cat "build/$1.configure.log" >&2; return 1; }
  # shellcheck disable=SC2086  # a list of words
  cmake --build --preset "$1" --parallel "$jobs" ${2:+--target $2} -- --quiet || return 1
}

# run PRESET TARGETS CTEST-ARGUMENTS...; no TARGETS: what the preset builds
run() {
  local preset=$1 targets=$2
  shift 2
  build "$preset" "$targets" || { failed+=("$preset build"); return; }
  echo "== testing $preset"
  ctest --preset "$preset" --output-on-failure --parallel "$jobs" "$@" ||
    failed+=("$preset: $(failed_tests "$preset")")
}

# Names of the tests that failed in the last run of PRESET, so that the end of the output tells.
failed_tests() {
  cut -d: -f2 "build/$1/Testing/Temporary/LastTestsFailed.log" 2>/dev/null | paste -sd' '
}

mkdir -p build
export ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=0"
export UBSAN_OPTIONS="print_stacktrace=1"
export TSAN_OPTIONS="halt_on_error=0:second_deadlock_stack=1"
if (( fast )); then
  run release "" -LE slow
else
  run tsan concurrent_tests -L concurrent
  run asan "unit_tests system_programs" -L 'unit|sanitizer'
  run fuzz ""
  run release ""
fi

if (( ${#failed[@]} > 0 )); then
  echo "FAILED: ${failed[*]}" >&2
  exit 1
fi
