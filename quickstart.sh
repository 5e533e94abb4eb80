#!/bin/bash
# quickstart.sh: installs, builds, starts and measures cached on this machine with one command, and leaves it clean.
#
# Everything that runs is in RUN; the processes are ended by the pids written down there.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RUN=/run/cached-quickstart
DATA_ROOT=${CACHED_QUICKSTART_DIR:-/var/tmp/cached-quickstart}
LIMIT_BYTES=${CACHED_QUICKSTART_LIMIT:-8589934592}
VOLUME=quickstart
LOG=$ROOT/build/quickstart.log
STEPS=6

usage() {
  cat <<USAGE
Usage: sudo ./quickstart.sh [DIR] [--ceph] [--keep]
       sudo ./quickstart.sh --stop

Shows on this machine (Debian 12) what cached does. Installs the packages, builds, starts the daemon, mounts one data set
twice, reads it directly, through the first mount (nothing cached yet) and through the second (cached by the first), and
prints what each took. Then everything is stopped and removed, but the packages and the build.

  DIR      a directory to read instead of a data set made for it (1.4 GB in $DATA_ROOT); it is only read
  --ceph   put the data into a Ceph cluster first, made for this run on this machine (one monitor, one OSD; needs about
           twice the data's size of disk), and let the daemon read it from there; the node gets an SSD tier as well
  --keep   leave daemon, mounts and data set in place, to try things out
  --stop   end what --keep left, or what a killed run left behind

Environment:
  CACHED_QUICKSTART_DIR    where to make the data set; one in a place that you name is kept and used again
  CACHED_QUICKSTART_LIMIT  of a larger DIR only about this many bytes are read (8589934592; 0: all)

Exit status: 0 done, 1 something failed, 2 wrong usage.
USAGE
}

# --- messages -------------------------------------------------------------------------------------------------------

step_number=0
step() {
  step_number=$((step_number + 1))
  printf '[%d/%d] %s\n' "$step_number" "$STEPS" "$1"
}

fail() {
  printf 'quickstart.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

human_bytes() { numfmt --to=iec-i --suffix=B --format=%.2f "$1"; }

# --- processes ------------------------------------------------------------------------------------------------------

# The child that is being waited for. Children run in the background, each in a process group of its own, because bash
# looks at signals only while it waits for a background child.
child=
wait_child() {
  local status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

# run_logged LABEL COMMAND...: runs with output into the log; on a terminal the log's last line is shown meanwhile.
run_logged() {
  local label=$1
  shift
  printf '\n== %s: %s\n' "$label" "$*" >>"$LOG"
  setsid "$@" >>"$LOG" 2>&1 </dev/null &
  child=$!
  if [ -t 1 ]; then
    while kill -0 "$child" 2>/dev/null; do
      printf '\r\033[K  %s' "$(tail -n 1 "$LOG" | tr -d '\000-\037' | cut -c -100)"
      sleep 0.5
    done
    printf '\r\033[K'
  fi
  wait_child && return
  tail -n 30 "$LOG" >&2
  fail "$label failed; the lines above are the end of $LOG"
}

# When process PID was started, in ticks since the boot; nothing if it is gone. With its pid this names it for good.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; }

# start_process NAME COMMAND...: starts in the background, output into RUN/NAME.log, and writes down which process it is.
start_process() {
  local name=$1
  shift
  setsid "$@" >"$RUN/$name.log" 2>&1 </dev/null &
  echo "$! $(start_time $!)" >"$RUN/$name.pid"
}

# The pid of process NAME if it is alive and is still that one, not another with its number.
living_pid() {
  local pid started
  read -r pid started 2>/dev/null <"$RUN/$1.pid" || return 1
  [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}

# wait_until SECONDS COMMAND...: true as soon as the command is, false when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

is_gone() { ! living_pid "$1" >/dev/null; }

end_process() {
  local pid
  pid=$(living_pid "$1") || return 0
  kill -TERM "$pid" 2>/dev/null || true
  wait_until 30 is_gone "$1" && return
  printf 'quickstart.sh: %s (pid %s) did not end on SIGTERM and is killed\n' "$1" "$pid" >&2
  kill -KILL "$pid" 2>/dev/null || true
  wait_until 10 is_gone "$1" || true
}

is_mounted() { grep -q " $1 fuse" /proc/self/mounts; }

unmount() {
  is_mounted "$1" || return 0
  umount "$1" 2>/dev/null || umount --lazy "$1" || true
}

stop_ceph() {
  local folder
  folder=$(cat "$RUN/ceph_folder" 2>/dev/null) || return 0
  "$ROOT/scripts/ceph-cluster.sh" stop "$folder" >/dev/null 2>&1 || true
  rm -rf --one-file-system "$folder" "$folder.ssd"
}

# Ends what RUN describes and removes it, and the data set if it was made for this run alone.
stop_everything() {
  [ -d "$RUN" ] || return 0
  local name data
  for name in mount1 mount2; do
    unmount "$RUN/$name"
    wait_until 5 is_gone "$name" || end_process "$name"
    unmount "$RUN/$name"
  done
  end_process cached
  stop_ceph
  data=$(cat "$RUN/data_to_remove" 2>/dev/null || true)
  [ -z "$data" ] || rm -rf --one-file-system "$data"
  rm -rf --one-file-system "$RUN"
}

keep_running=
on_exit() {
  local status=$?
  set +e  # whatever fails now, the rest is still cleaned up
  trap '' INT TERM HUP
  if [ -n "$child" ]; then
    kill -TERM -- "-$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  fi
  if [ "$(cat "$RUN/owner" 2>/dev/null)" = $$ ] && [ -z "$keep_running" ]; then stop_everything; fi
  exit "$status"
}

# --- steps ----------------------------------------------------------------------------------------------------------

# Makes RUN this script's own. What a killed run left is removed; a run that lives or was kept is not disturbed.
claim_run_folder() {
  if [ -d "$RUN" ]; then
    [ ! -e "$RUN/kept" ] || fail "an earlier quickstart was kept running; end it with: sudo ./quickstart.sh --stop"
    if kill -0 "$(cat "$RUN/owner" 2>/dev/null || echo none)" 2>/dev/null; then
      fail "another quickstart is running; one at a time"
    fi
    stop_everything
  fi
  mkdir -m 0755 "$RUN" || fail "cannot make $RUN"
  echo $$ >"$RUN/owner"
  mkdir "$RUN/mount1" "$RUN/mount2" "$RUN/state"
  mkdir -p "$(dirname "$LOG")"
  : >"$LOG"
}

find_program() {
  local program
  program=$(find "$ROOT/build/release" -type f -executable -name "$1" -print -quit)
  [ -n "$program" ] || fail "the build made no program $1"
  echo "$program"
}

build() {
  cd "$ROOT"
  run_logged "configuring" cmake --preset release
  run_logged "building" cmake --build --preset release --target cached cached-mount cachedctl
  # Whoever called sudo can go on building in their own checkout.
  [ -z "${SUDO_UID:-}" ] || chown -R --reference="$ROOT" "$ROOT/build"
}

make_data_set() {
  data=$DATA_ROOT/data
  # The default place is writable for all: what another user put there is not touched.
  if [ -L "$DATA_ROOT" ] || { [ -e "$DATA_ROOT" ] && [ ! -O "$DATA_ROOT" ]; }; then
    fail "$DATA_ROOT is there already and is not root's; set CACHED_QUICKSTART_DIR to another place"
  fi
  [ -n "${CACHED_QUICKSTART_DIR:-}" ] || echo "$DATA_ROOT" >"$RUN/data_to_remove"
  if [ -e "$DATA_ROOT/complete" ]; then
    echo "  using the one that is in $data"
    return
  fi
  local needed free
  needed=$(python3 "$ROOT/scripts/quickstart_data.py" --size)
  mkdir -p "$DATA_ROOT"
  rm -rf --one-file-system "$data"
  free=$(df --output=avail --block-size=1 "$DATA_ROOT" | tail -n 1)
  [ "$free" -gt $((needed + needed / 10)) ] ||
    fail "$DATA_ROOT has $(human_bytes "$free") free and $(human_bytes "$needed") are needed; set CACHED_QUICKSTART_DIR"
  run_logged "making the data set" python3 "$ROOT/scripts/quickstart_data.py" "$data"
  touch "$DATA_ROOT/complete"
}

# number FILE KEY: a value in a JSON file; the key is a path such as origin.read_bytes or volumes.0.files.
number() {
  python3 -c 'import functools, json, sys
step = lambda value, key: value[int(key) if isinstance(value, list) else key]
print(functools.reduce(step, sys.argv[2].split("."), json.load(open(sys.argv[1]))))' "$1" "$2"
}

# Sets total_files and total_bytes of what will be read.
count_data_set() {
  setsid python3 "$ROOT/scripts/quickstart_read.py" count "$data" --limit "$LIMIT_BYTES" >"$RUN/count.json" &
  child=$!
  wait_child || fail "cannot look through $data"
  total_files=$(number "$RUN/count.json" files)
  total_bytes=$(number "$RUN/count.json" bytes)
  [ "$total_bytes" -gt 0 ] || fail "$data holds no bytes to read"
  echo "  $total_files files, $(human_bytes "$total_bytes") in $data"
  if [ "$LIMIT_BYTES" -gt 0 ] && [ "$total_bytes" -ge "$LIMIT_BYTES" ]; then
    echo "  (there may be more; reading stops at CACHED_QUICKSTART_LIMIT)"
  fi
}

memory_kib() { awk -v name="$1:" '$1 == name {print $2}' /proc/meminfo; }

# The cache: the data and a quarter, if half of the machine's memory and most of what is free now suffice for that.
choose_arena_mib() {
  local wanted=$((total_bytes * 5 / 4 / 1048576 + 64))
  local half=$(($(memory_kib MemTotal) / 2048))
  local free=$(($(memory_kib MemAvailable) * 7 / 10 / 1024))
  arena_mib=$((wanted < half ? wanted : half))
  arena_mib=$((arena_mib < free ? arena_mib : free))
  [ "$arena_mib" -ge 64 ] || fail "this machine has too little free memory for the smallest cache, 64 MiB"
  if [ "$arena_mib" -lt "$wanted" ]; then
    echo "  the data does not fit into half of this machine's memory, so the second reading will not be all hits"
  fi
}

# A cluster of this machine's own, with the data set imported. Its files lie beside the data set.
start_ceph() {
  local folder=$DATA_ROOT.ceph
  rm -rf --one-file-system "$folder" "$folder.ssd"
  echo "$folder" >"$RUN/ceph_folder"
  run_logged "starting a Ceph cluster" "$ROOT/scripts/ceph-cluster.sh" start "$folder" --pool quickstart \
    --osd-size "$((total_bytes / 1073741824 * 2 + 8))GiB"
  echo "  a monitor and an OSD in $folder"
}

import_data_set() {
  if [ -t 1 ]; then
    "$cachedctl" import --config "$RUN/cached.toml" "$data" "$VOLUME" || fail "the import failed"
  else
    run_logged "importing" "$cachedctl" import --config "$RUN/cached.toml" "$data" "$VOLUME"
    tail -n 1 "$LOG" | sed 's/^/  /'
  fi
}

write_config() {
  local source volume_keys=
  if [ -n "$ceph" ]; then
    source=rados:quickstart/data
    volume_keys="ceph_conf = \"$DATA_ROOT.ceph/ceph.conf\""
  else
    source=dir:$(printf '%s' "$data" | sed 's/[\\"]/\\&/g')
  fi
  cat >"$RUN/cached.toml" <<CONFIG
[daemon]
socket = "$RUN/cached.sock"
control_socket = "$RUN/control.sock"
state_dir = "$RUN/state"
group = ""

[memory]
size = "${arena_mib}MiB"
name_entries = $((2 * total_files + 10000))

[[volume]]
name = "$VOLUME"
source = "$source"
$volume_keys
CONFIG
  [ -n "$ceph" ] || return 0
  cat >>"$RUN/cached.toml" <<CONFIG

[[device]]
path = "$DATA_ROOT.ceph.ssd"
size = "$((total_bytes / 1048576 * 5 / 4 + 256))MiB"
CONFIG
}

# Asks the daemon for its counters, into RUN/status.json.
take_status() { "$cachedctl" --socket "$RUN/control.sock" status --json >"$RUN/status.json" 2>/dev/null; }

# The daemon counts a data set in the background when it is first asked for the size, as df does. Done now, it cannot
# disturb what is measured.
is_counted() { take_status && [ "$(number "$RUN/status.json" volumes.0.counted)" = True ]; }

is_up_or_dead() { is_gone cached || take_status; }

start_daemon() {
  start_process cached "$cached" --config "$RUN/cached.toml" --foreground
  wait_until 60 is_up_or_dead || fail "the daemon did not answer within 60 s: $(tail -n 1 "$RUN/cached.log")"
  is_gone cached && fail "the daemon did not start: $(tail -n 1 "$RUN/cached.log")"
  echo "  cached with $arena_mib MiB of memory, configuration $RUN/cached.toml"
}

is_mounted_or_dead() { is_mounted "$RUN/$1" || is_gone "$1"; }

mount_volume() {
  start_process "$1" "$cached_mount" "$VOLUME" "$RUN/$1" -o "socket=$RUN/cached.sock,allow_other" -f
  wait_until 30 is_mounted_or_dead "$1" || true
  is_mounted "$RUN/$1" || fail "the mount did not come up: $(tail -n 1 "$RUN/$1.log")"
}

drop_kernel_caches() {
  sync
  echo 3 2>/dev/null >/proc/sys/vm/drop_caches || echo "  cannot drop the kernel's caches here: figures are too good" >&2
}

# run_reader COMMAND DIRECTORY LABEL: one pass of the reader; its answer goes to RUN/answer.json.
run_reader() {
  setsid python3 "$ROOT/scripts/quickstart_read.py" "$1" "$2" --label "$3" --total "$total_bytes" --limit "$LIMIT_BYTES" \
    >"$RUN/answer.json" &
  child=$!
  wait_child || fail "reading $2 failed"
}

# measure LABEL DIRECTORY: reads with cold kernel caches, then once more for the checksum, and adds a row to the table.
checksum=
measure() {
  local label=$1 directory=$2 origin_before hits_before misses_before origin hits misses answer
  drop_kernel_caches
  take_status || fail "the daemon does not answer: $(tail -n 1 "$RUN/cached.log")"
  origin_before=$(number "$RUN/status.json" origin.read_bytes)
  hits_before=$(number "$RUN/status.json" clients.hit_bytes)
  misses_before=$(number "$RUN/status.json" clients.miss_bytes)
  run_reader read "$directory" "$label"
  answer="$(number "$RUN/answer.json" seconds) $(number "$RUN/answer.json" bytes) $(number "$RUN/answer.json" files)"
  take_status || fail "the daemon does not answer: $(tail -n 1 "$RUN/cached.log")"
  origin=$(($(number "$RUN/status.json" origin.read_bytes) - origin_before))
  hits=$(($(number "$RUN/status.json" clients.hit_bytes) - hits_before))
  misses=$(($(number "$RUN/status.json" clients.miss_bytes) - misses_before))
  run_reader checksum "$directory" "$label, checking the bytes"
  check_same_bytes "$label"
  [ "$directory" != "$data" ] || origin=-
  echo "$label|$answer $origin $hits $misses" >>"$RUN/rows"
}

# Every reading must give the files, bytes and checksum of the first.
check_same_bytes() {
  local seen
  seen="$(number "$RUN/answer.json" files) $(number "$RUN/answer.json" bytes) $(number "$RUN/answer.json" checksum)"
  [ -n "$checksum" ] || checksum=$seen
  [ "$seen" = "$checksum" ] ||
    fail "$1: files, bytes and checksum are $seen, and directly $checksum: unless the data changed, this is a defect"
}

print_table() {
  local label rest seconds bytes files origin hits misses
  printf '\n%-30s %8s %9s %9s %13s %10s\n' "" seconds MB/s files/s "origin bytes" "hit ratio"
  while IFS='|' read -r label rest; do
    read -r seconds bytes files origin hits misses <<<"$rest"
    [ "$origin" = - ] || origin=$(human_bytes "$origin")
    awk -v l="$label" -v s="$seconds" -v b="$bytes" -v f="$files" -v o="$origin" -v h="$hits" -v m="$misses" 'BEGIN {
      if (s <= 0) s = 0.001
      ratio = h + m > 0 ? sprintf("%.1f %%", 100 * h / (h + m)) : "-"
      printf "%-30s %8.2f %9.0f %9.0f %13s %10s\n", l, s, b / 1e6 / s, f / s, o, ratio }'
  done <"$RUN/rows"
  printf '\nHits of the cold reading are bytes that were read ahead. What mount 2 reads was fetched for mount 1.\n'
  printf 'All three readings gave the same %s files, %s and checksum.\n' "$total_files" "$(human_bytes "$total_bytes")"
}

explain_kept() {
  cat <<KEPT

Left running, as asked:
  data              $data
  mounts            $RUN/mount1 and $RUN/mount2 (the same volume; what one has read is a hit for the other)
  see what it does  $cachedctl --socket $RUN/control.sock status
                    $cachedctl --socket $RUN/control.sock sessions
  mount once more   mkdir -p /mnt/third && $cached_mount $VOLUME /mnt/third -o socket=$RUN/cached.sock
  configuration     $RUN/cached.toml; log $RUN/cached.log
  end it            sudo $ROOT/quickstart.sh --stop     (unmount your own mounts first)
KEPT
}

# --- the run --------------------------------------------------------------------------------------------------------

keep=
stop=
ceph=
data=
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=1 ;;
    --ceph) ceph=1 ;;
    --stop) stop=1 ;;
    -h | --help) usage && exit 0 ;;
    -*) fail "unknown option $1; see ./quickstart.sh --help" 2 ;;
    *)
      [ -z "$data" ] || fail "only one DIR can be read; see ./quickstart.sh --help" 2
      [ -d "$1" ] || fail "$1 is not a directory" 2
      data=$(realpath "$1")
      ;;
  esac
  shift
done
[ -z "$stop" ] || [ -z "$keep$ceph$data" ] || fail "--stop goes alone; see ./quickstart.sh --help" 2
[[ $LIMIT_BYTES =~ ^[0-9]+$ ]] || fail "CACHED_QUICKSTART_LIMIT must be a number of bytes" 2
[ -z "$ceph" ] || STEPS=$((STEPS + 2))
[ "$(id -u)" = 0 ] || fail "must run as root, to install packages and to mount: sudo ./quickstart.sh"

if [ -n "$stop" ]; then
  [ -d "$RUN" ] || { echo "nothing to stop: there is no $RUN" && exit 0; }
  stop_everything
  echo "stopped: no process, mount or socket is left"
  exit 0
fi

trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
claim_run_folder

step "installing packages (packages.list)"
run_logged "installing packages" "$ROOT/scripts/install-packages.sh"
step "building (build/release)"
build
cached=$(find_program cached)
cached_mount=$(find_program cached-mount)
cachedctl=$(find_program cachedctl)
step "the data set"
[ -n "$data" ] || make_data_set
count_data_set
choose_arena_mib
write_config
if [ -n "$ceph" ]; then
  step "starting a Ceph cluster"
  start_ceph
  step "importing the data set"
  import_data_set
fi
step "starting the daemon and two mounts"
start_daemon
mount_volume mount1
mount_volume mount2
df "$RUN/mount1" >/dev/null
wait_until 60 is_counted || true
step "reading three times, the kernel's caches dropped before each"
measure "directory itself, cold cache" "$data"
measure "cold through mount 1" "$RUN/mount1"
measure "warm through mount 2" "$RUN/mount2"
step "the result"
print_table
if [ -n "$keep" ]; then
  touch "$RUN/kept"
  keep_running=1
  explain_kept
fi
