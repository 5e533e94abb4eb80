"""Mounts and containers, as Kubernetes sets them up: mount namespaces with HostPath volumes and their propagation."""

import os
import signal
import subprocess
import unittest

from harness import START_TIMEOUT_S, SystemTest, mounts_below, wait_until


class Container:
    """A mount namespace that sees one directory of the host at /mnt, with the given propagation."""

    def __init__(self, test, host_path, propagation):
        # HostToContainer is slave: mounts come in. Bidirectional is shared: those made below /mnt go out as well, which
        # nothing else does, as the mount that /mnt lies on is private.
        script = 'mount --rbind "$0" /mnt; echo up; exec sleep 1000'
        if propagation == "shared":
            script = f"mount --make-private /; {script}"
        self.test = test
        namespace = "unchanged" if propagation == "shared" else "slave"
        self.process = test.start_process("container", ["unshare", "--mount", "--propagation", namespace, "sh", "-ec",
                                                        script, str(host_path)])
        log = test.processes[self.process]
        wait_until(lambda: "up" in log.read_text(), START_TIMEOUT_S, "the container runs")

    def run(self, *command):
        return subprocess.run(["nsenter", "-t", str(self.process.pid), "-m", *map(str, command)], capture_output=True,
                              timeout=START_TIMEOUT_S, check=False)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.test.forget(self.process)


class ContainerTest(SystemTest):
    def setUp(self):
        super().setUp()
        self.shared = self.root / "shared"
        self.shared.mkdir()
        # As /var/lib/kubelet and its like are: a mount of its own, shared.
        subprocess.run(["mount", "--bind", str(self.shared), str(self.shared)], check=True)
        self.addCleanup(lambda: subprocess.run(["umount", "-R", str(self.shared)], check=True))
        subprocess.run(["mount", "--make-rshared", str(self.shared)], check=True)
        (self.source / "file").write_bytes(b"bytes of the volume")
        self.start_daemon()

    def mount_at(self, path):
        """A mount in the background at a path of the host."""
        path.mkdir(exist_ok=True)
        subprocess.run(self.mount_command("data", path), check=True, timeout=START_TIMEOUT_S)
        self.addCleanup(lambda: subprocess.run(["umount", str(path)], check=True, timeout=START_TIMEOUT_S))

    def serving(self):
        return [session["pid"] for session in self.sessions() if session["state"] == "attached"]

    def test_a_container_sees_mounts_that_the_host_makes_before_and_after_its_start(self):
        self.mount_at(self.shared / "before")
        container = Container(self, self.shared, "slave")
        self.addCleanup(container.end)
        self.mount_at(self.shared / "after")
        for name in ("before", "after"):
            done = container.run("cat", f"/mnt/{name}/file")
            self.assertEqual((done.returncode, done.stdout), (0, b"bytes of the volume"), done.stderr)

    def test_a_container_sees_a_mount_again_that_died(self):
        self.mount_at(self.shared / "data")
        container = Container(self, self.shared, "slave")
        self.addCleanup(container.end)
        first = self.serving()[0]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: container.run("cat", "/mnt/data/file").stdout == b"bytes of the volume", START_TIMEOUT_S,
                   "the container reads through the mount that came back")
        self.assertNotIn(first, self.serving())

    def test_a_container_that_mounts_shares_the_hosts_cache_and_gives_its_mount_to_the_host(self):
        container = Container(self, self.shared, "shared")
        self.addCleanup(container.end)
        path = self.shared / "inside"
        path.mkdir()
        # It has the daemon's socket and /dev/fuse, and nothing of Ceph, SSDs or the source.
        done = container.run(*self.mount_command("data", "/mnt/inside"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((path / "file").read_bytes(), b"bytes of the volume", "the host does not see it")
        self.assertEqual(container.run("cat", "/mnt/inside/file").stdout, b"bytes of the volume")
        self.assertIn("/mnt/inside", [session["label"] for session in self.sessions()])
        self.assertEqual(container.run("umount", "/mnt/inside").returncode, 0)
        self.assertNotIn(str(path), mounts_below(self.shared))
        wait_until(lambda: not self.serving(), START_TIMEOUT_S, "the session is gone")


if __name__ == "__main__":
    unittest.main()
