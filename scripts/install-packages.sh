#!/bin/bash
# Installs the packages of packages.list that this machine lacks. Needs root only if one is missing. Quiet when all is
# there.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r package; do
  [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" == "install ok installed" ]] || missing+=("$package")
done < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' packages.list)
(( ${#missing[@]} == 0 )) && exit 0

if (( EUID != 0 )); then
  echo "$0: needs root to install: ${missing[*]}" >&2
  exit 1
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "$0: apt-get could not install: ${missing[*]} (Debian 12 is what this is tested on)" >&2
  exit 1
fi
