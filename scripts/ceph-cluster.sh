#!/bin/bash
# A small, real Ceph cluster in a folder, for tests and demonstrations: one monitor and BlueStore OSDs from Debian's
# packages, on loopback, with cephx, without systemd and without a manager (nothing here needs its statistics).
#
# Everything is in DIR: ceph.conf, keyring, data, sockets, logs, and a pid file for each process. `stop` kills those
# processes and removes what `start` made; the data is meant to be thrown away, so nobody waits for it to be flushed.
# `halt` only ends the processes, and `resume` runs them again on the same data.
set -euo pipefail

readonly START_TIMEOUT_S=60
readonly MARK=.ceph-cluster     # says that DIR is ours to remove from
readonly SOCKET_PATH_LIMIT=107  # of the kernel

usage() {
  cat <<'USAGE'
Usage: scripts/ceph-cluster.sh start DIR [options]    starts a cluster, prints the path of its ceph.conf
       scripts/ceph-cluster.sh stop DIR               ends it and removes its files (also after a crash)
       scripts/ceph-cluster.sh halt DIR               ends it and keeps its files
       scripts/ceph-cluster.sh resume DIR [--owner PID]   runs it again after `halt` or a crash
       scripts/ceph-cluster.sh status DIR             prints its processes

Options of start:
  --osds N          OSDs (1); each needs about 0.5 GiB of memory
  --osd-size SIZE   of each OSD's file, which is sparse (8GiB). BlueStore aborts when the file is full: give more than
                    will be written
  --pool NAME       makes a replicated pool of size 1; may be repeated
  --ec-pool NAME    makes an erasure-coded pool (2 + 1); needs 2 OSDs at least; may be repeated
  --cephfs NAME     makes a CephFS of this name and runs its metadata server (needs ceph-mds)
  --owner PID       stops the cluster when that process has ended, however it ended; after `resume` it is halted

DIR must not exist or be empty, on a file system with O_DIRECT (not tmpfs), and its path must be short.
The administrator's key is in DIR/keyring (user client.admin), which DIR/ceph.conf names.

Exit status: 0 done; 1 something failed; 2 wrong usage; 3 status: not running; 4 start, resume: it is running already.
USAGE
}

fail() {
  printf 'ceph-cluster.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# --- processes ------------------------------------------------------------------------------------------------------

# The pid in a pid file, if that process is still the one that was started for this DIR.
pid_of() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$DIR/ceph.conf" || return 1
  echo "$pid"
}

running_pids() {
  local file
  for file in "$DIR"/*.pid; do
    [ -e "$file" ] && pid_of "$file"
  done
  return 0
}

# watch_owner COMMAND: ends the cluster by `stop` or `halt` after its owner, which may be killed before it could.
watch_owner() {
  [ -n "$OWNER" ] || return 0
  setsid bash -c 'while kill -0 "$1" 2>/dev/null; do sleep 1; done; exec "$0" "$3" "$2"' \
    "$SELF" "$OWNER" "$DIR" "$1" "$DIR/ceph.conf" </dev/null >/dev/null 2>&1 &
  echo $! >"$DIR/owner.pid"
}

# launch NAME COMMAND...: starts a daemon in a session of its own. Its log file has what it says once it runs.
launch() {
  local name=$1
  shift
  setsid "$@" -f --conf "$DIR/ceph.conf" </dev/null >>"$DIR/$name.out" 2>&1 &
  echo $! >"$DIR/$name.pid"
}

kill_all() {
  local pids pid
  pids=$(running_pids)
  for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
  for pid in $pids; do
    for _ in $(seq 200); do
      kill -0 "$pid" 2>/dev/null && [ "$(process_state "$pid")" != Z ] || break
      sleep 0.05
    done
  done
}

process_state() { sed -e 's/^.*) //' -e 's/ .*//' "/proc/$1/stat" 2>/dev/null || echo Z; }

# --- making a cluster -----------------------------------------------------------------------------------------------

ceph_command() { ceph --conf "$DIR/ceph.conf" --connect-timeout 10 "$@"; }
quietly() { "$@" >>"$DIR/start.log" 2>&1; }

free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  fail "no free port on 127.0.0.1"
}

write_conf() {
  local fsid=$1 port=$2 size_bytes=$3 files
  # Of every daemon; clients of whatever user read this configuration too.
  files="admin socket = $DIR/\$name.asok
log file = $DIR/\$name.log
log to stderr = false
run dir = $DIR"
  cat >"$DIR/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$port]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
crash dir = $DIR/crash

[client]
keyring = $DIR/keyring

[mon]
$files
mon data = $DIR/mon
mon data avail crit = 1
mon data avail warn = 1
mon allow pool delete = true
# The monitor proposes a new map at once instead of collecting changes for a second: starting takes half as long.
paxos propose interval = 0.05

[mds]
$files
mds data = $DIR/\$name
keyring = $DIR/\$name/keyring

[osd]
$files
osd data = $DIR/\$name
keyring = $DIR/\$name/keyring
osd objectstore = bluestore
bluestore block size = $size_bytes
bluestore cache autotune = false
bluestore cache size = 268435456
osd memory target = 1073741824
# Two cores are enough for one client; the defaults are for a machine of its own.
osd op num shards = 2
osd op num threads per shard = 2
osd crush update on start = true
CONF
}

make_keyrings() {
  quietly ceph-authtool --create-keyring "$DIR/keyring" --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' --cap mds 'allow *'
  cp "$DIR/keyring" "$DIR/mon.keyring"
  quietly ceph-authtool "$DIR/mon.keyring" --gen-key -n mon. --cap mon 'allow *'
  chmod 600 "$DIR/keyring" "$DIR/mon.keyring"
}

start_monitor() {
  local fsid=$1 port=$2
  quietly monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$port]" "$DIR/monmap"
  quietly ceph-mon --conf "$DIR/ceph.conf" --mkfs -i a --monmap "$DIR/monmap" --keyring "$DIR/mon.keyring"
  launch mon.a ceph-mon -i a
}

# Registers OSD $1 at the monitor with a key of its own and makes its store.
make_osd() {
  local id=$1 uuid key
  uuid=$(cat /proc/sys/kernel/random/uuid)
  key=$(ceph-authtool --gen-print-key)
  mkdir "$DIR/osd.$id"
  quietly ceph-authtool --create-keyring "$DIR/osd.$id/keyring" -n "osd.$id" --add-key "$key"
  # Making the store takes longest and needs no monitor: it runs beside the registration.
  ceph-osd --conf "$DIR/ceph.conf" --mkfs -i "$id" --osd-uuid "$uuid" --no-mon-config \
    >"$DIR/osd.$id.mkfs" 2>&1 </dev/null &
  echo "{\"cephx_secret\": \"$key\"}" >"$DIR/osd.$id/secret"
  quietly ceph_command osd new "$uuid" "$id" -i "$DIR/osd.$id/secret"
  wait $! || { cat "$DIR/osd.$id.mkfs" >&2; return 1; }
}

make_pools() {
  local name
  for name in "${POOLS[@]}"; do
    quietly ceph_command osd pool create "$name" 8 8 replicated --size 1
  done
  (( ${#EC_POOLS[@]} == 0 )) && return
  quietly ceph_command osd erasure-code-profile set small k=2 m=1 crush-failure-domain=osd
  for name in "${EC_POOLS[@]}"; do
    quietly ceph_command osd pool create "$name" 8 8 erasure small
  done
}

# CephFS with the pools NAME.meta and NAME.data, and its one metadata server.
make_cephfs() {
  mkdir "$DIR/mds.a"
  quietly ceph_command auth get-or-create mds.a mon 'profile mds' osd 'allow rwx' mds 'allow *' -o "$DIR/mds.a/keyring"
  quietly ceph_command osd pool create "$CEPHFS.meta" 8 8 replicated --size 1
  quietly ceph_command osd pool create "$CEPHFS.data" 8 8 replicated --size 1
  quietly ceph_command fs new "$CEPHFS" "$CEPHFS.meta" "$CEPHFS.data"
  start_mds
}

# Returns when the metadata server serves.
start_mds() {
  launch mds.a ceph-mds -i a
  local deadline=$((SECONDS + START_TIMEOUT_S))
  until [[ "$(ceph_command mds stat 2>>"$DIR/start.log")" == *up:active* ]]; do
    (( SECONDS < deadline )) || { echo "the metadata server did not come up in $START_TIMEOUT_S s" >&2; return 1; }
    pid_of "$DIR/mds.a.pid" >/dev/null || { echo "the metadata server ended" >&2; return 1; }
    sleep 0.2
  done
}

# Waits until the monitor sees all OSDs up.
wait_for_osds() {
  local deadline=$((SECONDS + START_TIMEOUT_S))
  until [[ "$(ceph_command osd stat 2>>"$DIR/start.log")" == "$OSDS osds: $OSDS up"* ]]; do
    (( SECONDS < deadline )) || { echo "the OSDs did not come up in $START_TIMEOUT_S s" >&2; return 1; }
    (( $(running_pids | wc -l) == OSDS + 1 )) || { echo "a process ended" >&2; return 1; }
    sleep 0.2
  done
}

# For the files of a cluster that was halted.
bring_up_again() {
  local id
  OSDS=$(find "$DIR" -maxdepth 1 -type d -name 'osd.*' | wc -l)
  rm -f "$DIR"/*.pid
  launch mon.a ceph-mon -i a
  # What the map says of the OSDs is from before: they count once they have come back.
  for (( id = 0; id < OSDS; id++ )); do quietly ceph_command osd down "$id"; done
  for (( id = 0; id < OSDS; id++ )); do launch "osd.$id" ceph-osd -i "$id"; done
  wait_for_osds
  [ ! -d "$DIR/mds.a" ] || start_mds
}

bring_up() {
  local fsid port id
  fsid=$(cat /proc/sys/kernel/random/uuid)
  port=$(free_port)
  write_conf "$fsid" "$port" "$OSD_BYTES"
  make_keyrings
  start_monitor "$fsid" "$port"
  for (( id = 0; id < OSDS; id++ )); do
    make_osd "$id"
    launch "osd.$id" ceph-osd -i "$id"
  done
  wait_for_osds
  make_pools
  [ -z "$CEPHFS" ] || make_cephfs
}

# --- commands -------------------------------------------------------------------------------------------------------

command_start() {
  local program
  for program in ceph-mon ceph-osd ceph ceph-authtool monmaptool; do
    command -v "$program" >/dev/null || fail "$program is missing: install ceph-mon, ceph-osd and ceph-common"
  done
  [ -z "$CEPHFS" ] || command -v ceph-mds >/dev/null || fail "ceph-mds is missing: install ceph-mds"
  [ -z "$(running_pids)" ] || fail "a cluster is running in $DIR" 4
  (( ${#DIR} + 16 < SOCKET_PATH_LIMIT )) || fail "$DIR is too long: socket paths have $SOCKET_PATH_LIMIT bytes" 2
  (( ${#EC_POOLS[@]} == 0 || OSDS >= 2 )) || fail "--ec-pool needs --osds 2 or more" 2
  [ ! -e "$DIR/$MARK" ] || remove_files
  mkdir -p "$DIR"
  [ -z "$(ls -A "$DIR")" ] || fail "$DIR is not empty"
  chmod 700 "$DIR"
  : >"$DIR/$MARK"
  run_or_tidy bring_up
  watch_owner stop
  echo "$DIR/ceph.conf"
}

# Runs one of the functions above. In a subshell, so that `set -e` ends it at the first failure and we can still tidy up.
run_or_tidy() {
  set +e
  (set -e; "$1")
  local status=$?
  set -e
  if (( status != 0 )); then
    tail -n 20 "$DIR/start.log" "$DIR"/*.out >&2 || true
    kill_all
    fail "the cluster did not start; logs are in $DIR (remove them: $0 stop $DIR)"
  fi
}

command_halt() {
  [ -e "$DIR/$MARK" ] || fail "$DIR holds no cluster" 3
  kill_all
}

command_resume() {
  [ -e "$DIR/$MARK" ] && [ -e "$DIR/ceph.conf" ] || fail "$DIR holds no cluster"
  [ -z "$(running_pids)" ] || fail "a cluster is running in $DIR" 4
  run_or_tidy bring_up_again
  watch_owner halt
  echo "$DIR/ceph.conf"
}

remove_files() {
  find "$DIR" -mindepth 1 -maxdepth 1 ! -name "$MARK" -exec rm -rf -- {} +
  rm -f -- "$DIR/$MARK"
}

command_stop() {
  [ -e "$DIR/$MARK" ] || return 0
  kill_all
  remove_files
  rmdir --ignore-fail-on-non-empty -- "$DIR"
}

command_status() {
  local file pid
  [ -n "$(running_pids)" ] || { echo "not running"; exit 3; }
  echo "conf $DIR/ceph.conf"
  for file in "$DIR"/*.pid; do
    pid=$(pid_of "$file") && echo "$(basename "$file" .pid) pid $pid" || echo "$(basename "$file" .pid) not running"
  done
}

parse_start_options() {
  while (( $# > 0 )); do
    (( $# >= 2 )) || fail "$1 is not an option or lacks its value (see --help)" 2
    case "$1" in
      --osds) OSDS=$2 ;;
      --osd-size) OSD_BYTES=$(numfmt --from=iec-i --suffix=B "${2%B}B" 2>/dev/null | tr -d B) || OSD_BYTES= ;;
      --pool) POOLS+=("$2") ;;
      --ec-pool) EC_POOLS+=("$2") ;;
      --cephfs) CEPHFS=$2 ;;
      --owner) OWNER=$2 ;;
      *) fail "unknown option $1 (see --help)" 2 ;;
    esac
    shift 2
  done
  [[ "$OWNER" =~ ^[0-9]*$ ]] || fail "--owner is a process id" 2
  [[ "$OSDS" =~ ^[1-9][0-9]?$ ]] || fail "--osds is a number from 1 to 99" 2
  [[ "$OSD_BYTES" =~ ^[0-9]+$ ]] && (( OSD_BYTES >= 1 << 30 )) || fail "--osd-size is at least 1GiB" 2
}

case "${1:-}" in
  -h|--help) usage; exit 0 ;;
  start|stop|halt|resume|status) (( $# >= 2 )) || { usage >&2; exit 2; } ;;
  *) usage >&2; exit 2 ;;
esac
COMMAND=$1
DIR=$(realpath -m -- "$2")
SELF=$(realpath -- "$0")
OWNER=
OSDS=1
OSD_BYTES=$((8 << 30))
POOLS=()
EC_POOLS=()
CEPHFS=
shift 2
if [ "$COMMAND" = start ]; then
  parse_start_options "$@"
elif [ "$COMMAND" = resume ] && [ "${1:-}" = --owner ] && [[ "${2:-}" =~ ^[0-9]+$ ]] && (( $# == 2 )); then
  OWNER=$2
elif (( $# > 0 )); then
  usage >&2
  exit 2
fi
"command_$COMMAND"
