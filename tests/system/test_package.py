"""The Debian package, in a fresh Debian 12: install, run, upgrade, remove, purge.

The Debian is made by debootstrap, from the archive that this machine itself uses, and lives in a mount and process
namespace of its own, so that nothing of it is left whatever happens. Downloads are kept in /var/tmp/cached-test-packages.
"""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import SystemTest

BUILD = pathlib.Path(os.environ.get("CACHED_BIN_DIR", "."))
DOWNLOADS = pathlib.Path("/var/tmp/cached-test-packages")
DEBOOTSTRAP_S = 200

# Runs in the new Debian. What it prints last is what went wrong.
SCRIPT = r"""
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
step() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }
until_true() { for _ in $(seq 100); do "$@" && return; sleep 0.1; done; fail "never: $*"; }

step install
mount -t proc proc /proc
[ -e /dev/fuse ] || mknod /dev/fuse c 10 229
echo 'APT::Sandbox::User "root";' >/etc/apt/apt.conf.d/90test
apt-get update -q >/update.log 2>&1 || { cat /update.log; fail update; }
apt-get install -y -q --no-install-recommends /packages/old.deb >/install.log 2>&1 || { cat /install.log; fail install; }
[ "$(dpkg-query -W -f='${Status}' cached)" = "install ok installed" ] || fail "not installed"
pgrep cached && fail "something was started"
getent passwd cached >/dev/null || fail "no user cached"
dpkg-query -W -f='${Conffiles}' cached | grep -q /etc/cached/cached.toml || fail "cached.toml is no conffile"
for file in /lib/systemd/system/cached.service /lib/systemd/system/cached-mount@.service /sbin/mount.cached \
    /usr/share/cached/alerts.yml /usr/share/cached/grafana-dashboard.json /usr/share/cached/METRICS.md \
    /usr/share/bash-completion/completions/cachedctl /usr/share/bash-completion/completions/cached-mount \
    /usr/share/doc/cached/README.md /etc/cached/mounts /mnt/cached; do
  [ -e "$file" ] || fail "$file is missing"
done
for command in cached cached-mount cachedctl cached-bench; do
  $command --help >/dev/null || fail "$command does not run"
  dpkg -S "$(command -v $command)" >/dev/null || fail "$command is of no package"
done

step run
mkdir -p /srv/data /run/cached
echo content >/srv/data/file
sed -i 's|^source = .*|source = "dir:/srv/data"|; s|^size = "1GiB"|size = "64MiB"|' /etc/cached/cached.toml
sed -i 's|^name = .*|name = "data"|; s|^listen = .*|listen = "127.0.0.1:9477"|' /etc/cached/cached.toml
cached --check-config
chown cached: /run/cached /var/lib/cached 2>/dev/null || { mkdir -p /var/lib/cached; chown cached: /var/lib/cached /run/cached; }
# As cached.service runs it.
setpriv --reuid=cached --regid=cached --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search \
  --bounding-set=-all,+dac_read_search cached --foreground >/daemon.log 2>&1 &
daemon=$!
until_true cachedctl status >/dev/null
mkdir /mnt/one /mnt/two
mount -t cached cached:data /mnt/one -o _netdev,nosuid || { cat /daemon.log; fail "mount -t cached"; }
[ "$(cat /mnt/one/file)" = content ] || fail "wrong content"
echo 'cached:data /mnt/two cached _netdev,nofail,nosuid,nodev 0 0' >>/etc/fstab
mount -a -t cached
mount -a -t cached
[ "$(grep -c ' fuse.cached ' /proc/mounts)" = 2 ] || fail "not two mounts: $(cat /proc/mounts)"
[ "$(cat /mnt/two/file)" = content ] || fail "wrong content"
cachedctl sessions --json | grep -q /mnt/two || fail "no session"
. /usr/share/bash-completion/completions/cachedctl
COMP_WORDS=(cachedctl sta) COMP_CWORD=1; _cachedctl
[ "${COMPREPLY[*]}" = status ] || fail "completion offers ${COMPREPLY[*]}"
COMP_WORDS=(cachedctl config "") COMP_CWORD=2; _cachedctl
[[ " ${COMPREPLY[*]} " == *" check "* ]] || fail "completion of config offers ${COMPREPLY[*]}"

step upgrade
cp /etc/cached/cached.toml /before.toml
dpkg --force-confold -i /packages/new.deb >/upgrade.log 2>&1 || { cat /upgrade.log; fail upgrade; }
[ "$(dpkg-query -W -f='${Version}' cached)" = 99.0 ] || fail "not upgraded"
cmp /before.toml /etc/cached/cached.toml || fail "the upgrade changed the configuration"
grep -q "a new default" /etc/cached/cached.toml.dpkg-dist || fail "the new default is not beside it"
[ "$(cat /mnt/one/file)" = content ] || fail "a mount did not survive the upgrade"

step remove
umount /mnt/one /mnt/two
kill $daemon
wait $daemon || { cat /daemon.log; fail "the daemon ended with $?"; }
dpkg -r cached >/remove.log 2>&1 || { cat /remove.log; fail remove; }
[ -e /usr/bin/cached ] && fail "programs are left"
[ -e /lib/systemd/system/cached.service ] && fail "units are left"
[ -e /etc/cached/cached.toml ] || fail "a removal took the configuration"
[ -d /var/lib/cached ] || fail "a removal took the state"

step purge
dpkg -P cached >/purge.log 2>&1 || { cat /purge.log; fail purge; }
for path in /etc/cached /var/lib/cached /usr/share/cached /sbin/mount.cached; do
  [ -e $path ] && fail "$path is left"
done
step done
"""


def archive_of_this_machine():
    """The address of the Debian archive in apt's own configuration."""
    texts = [path.read_text(errors="replace") for path in
             (pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*")))
             if path.is_file()]
    for text in texts:
        for pattern in (r"(?m)^URIs:\s*(\S+/debian)/?\s*$", r"(?m)^deb\s+(?:\[[^]]*\]\s+)?(\S+/debian)/?\s+bookworm\s"):
            if (found := re.search(pattern, text)) is not None:
                return found.group(1)
    return None


class PackageTest(SystemTest):
    def make_packages(self):
        """The package, and one of a later version whose configuration has another default."""
        packages = self.root / "packages"
        packages.mkdir()
        if not (BUILD / "CPackConfig.cmake").exists():
            self.skipTest(f"{BUILD} is no build directory: cpack has no configuration")
        for tool in ("cpack", "dpkg-shlibdeps", "dpkg-deb"):
            if shutil.which(tool) is None:
                self.skipTest(f"{tool} is not installed")
        done = subprocess.run(["cpack", "--config", str(BUILD / "CPackConfig.cmake"), "-B", str(self.root / "cpack")],
                              cwd=BUILD, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        made = list((self.root / "cpack").glob("*.deb"))
        self.assertEqual(len(made), 1, made)
        shutil.copy(made[0], packages / "old.deb")
        tree = self.root / "tree"
        subprocess.run(["dpkg-deb", "-R", str(made[0]), str(tree)], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 99.0", control.read_text()))
        with open(tree / "etc/cached/cached.toml", "a", encoding="utf-8") as config:
            config.write("# a new default\n")
        subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", str(tree), str(packages / "new.deb")], check=True,
                       capture_output=True)
        shutil.rmtree(tree)
        return packages

    def make_debian(self):
        archive = archive_of_this_machine()
        if shutil.which("debootstrap") is None or archive is None:
            self.skipTest("no debootstrap, or no Debian 12 archive in apt's configuration")
        DOWNLOADS.mkdir(exist_ok=True)
        debian = self.root / "debian"
        try:
            done = subprocess.run(["debootstrap", "--variant=minbase", "--include=procps,mount", f"--cache-dir={DOWNLOADS}", "bookworm", str(debian), archive],
                                  capture_output=True, text=True, timeout=DEBOOTSTRAP_S, check=False)
        except subprocess.TimeoutExpired:
            self.skipTest(f"debootstrap took over {DEBOOTSTRAP_S} s: the archive is slow or cannot be reached")
        if done.returncode != 0:
            self.skipTest(f"debootstrap cannot make a Debian here: {(done.stdout + done.stderr)[-300:]}")
        return debian

    def test_the_package_installs_runs_upgrades_and_goes(self):
        packages = self.make_packages()
        debian = self.make_debian()
        (debian / "packages").mkdir()
        for package in packages.iterdir():
            shutil.move(package, debian / "packages")
        (debian / "script").write_text(SCRIPT)
        shutil.copy("/etc/resolv.conf", debian / "etc/resolv.conf")
        DOWNLOADS.mkdir(exist_ok=True)
        enter = ('mount --bind "$1" "$0/var/cache/apt/archives" && exec chroot "$0" /bin/bash /script')
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
                               "sh", "-c", enter, str(debian), str(DOWNLOADS)],
                              capture_output=True, text=True, timeout=240, check=False)
        self.assertTrue(done.returncode == 0 and done.stdout.rstrip().endswith("== done"),
                        done.stdout[-6000:] + done.stderr[-2000:])


if __name__ == "__main__":
    unittest.main()
