"""Data of a data set in an erasure-coded pool, its metadata in a replicated one."""

import os

from harness import read_direct
from rados_harness import RadosTest
from test_rados import tree_state

BLOCK = 128 * 1024


class RadosCodedTest(RadosTest):
    osds = 3
    pools, coded_pools = ("meta",), ("coded",)
    data_pool = "coded"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Metadata must outlast the loss of an OSD as data does.
        cls.cluster.command("ceph", "osd", "pool", "set", "meta", "size", 2)

    def test_data_may_be_erasure_coded(self):
        self.make_tree(small=300, large=3, large_size="16MiB")
        os.link(self.source / self.some_file(), self.source / "link")
        self.import_tree()
        self.assertTrue(all("/d." in name for name in self.objects()))
        self.assertFalse(any("/d." in name for name in self.objects("meta")))
        mounts = [self.start_and_mount(), self.mount()]
        self.verify_read(*mounts, passes=1, threads=4, mode="pread,direct,mmap,whole,random")
        self.verify_is_clean()
        self.run_ctl("export", "data", self.root / "back")
        self.assertEqual(tree_state(self.source), tree_state(self.root / "back"))

    def some_file(self):
        return next(os.path.relpath(os.path.join(parent, name), self.source)
                    for parent, _, names in os.walk(self.source) for name in sorted(names))

    def test_what_is_read_is_right_when_an_osd_is_lost(self):
        self.write("large", os.urandom(64 << 20))
        self.import_tree()
        mount = self.start_and_mount()
        content = (self.source / "large").read_bytes()
        self.cluster.kill("osd.2")
        # Until the monitor has seen that it is gone, reads that need it wait; then it is done without.
        for offset in range(0, len(content), 17 * BLOCK):
            self.assertEqual(read_direct(mount.path / "large", offset, BLOCK), content[offset:offset + BLOCK])
        self.assertEqual(self.status()["origin"]["errors"], 0)

    def test_changes_and_removals_work_there(self):
        self.make_files(20, 300_000)
        self.settle()
        self.import_tree()
        (self.source / "files/3/file-00003").write_bytes(b"changed")
        self.assertEqual(self.import_tree()["stored_bytes"], len(b"changed"))
        self.run_ctl("volume", "remove-snapshot", "data", 1, "--grace", 0)
        self.verify_is_clean()
        self.run_ctl("volume", "destroy", "data", "--yes")
        self.assertEqual(self.objects() + self.objects("meta"), [])
