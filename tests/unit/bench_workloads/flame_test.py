"""Tests of what perf's samples become: a table and a flame graph."""

import pathlib
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "bench"))

from flame import flame_graph, stacks_of, table  # noqa: E402

SCRIPT = """\
swapper     0/0    \n\
\tffffffff821f4dab default_idle ([kernel.kallsyms])

shard 0   100/101  \n\
\t    55d0c0ffee00 std::less<int>::operator() const+0x1f (/usr/bin/cached)
\t    55d0c0ffee10 serve(int, char const*) (/usr/bin/cached)
\t    7f00deadbeef [unknown] (/usr/lib/libc.so.6 (deleted))

shard 0   100/101  \n\
\t    55d0c0ffee10 serve(int, char const*) (/usr/bin/cached)
\t    7f00deadbeef [unknown] (/usr/lib/libc.so.6 (deleted))

mount   200/200  \n\
\t    55d0c0ffee10 read & <copy> (/usr/bin/cached-mount)
"""
NAMES = {100: "cached", 200: "cached-mount"}
SERVE = ("serve(int, char const*)", "cached")
LIBC = ("[unknown]", "libc.so.6 (deleted)")


class FlameTest(unittest.TestCase):
    def setUp(self):
        self.stacks = stacks_of(SCRIPT.splitlines(), NAMES)

    def test_stacks_are_those_of_the_named_processes_from_the_outside_in(self):
        self.assertEqual(self.stacks, {("cached", LIBC, SERVE, ("std::less<int>::operator() const", "cached")): 1,
                                       ("cached", LIBC, SERVE): 1,
                                       ("cached-mount", ("read & <copy>", "cached-mount")): 1})

    def test_the_table_counts_a_function_itself_and_with_what_is_below_it(self):
        lines = table(self.stacks)
        self.assertEqual(lines[0], "3 samples")
        self.assertIn("  33.33   66.67  cached         serve(int, char const*) (cached)", lines)
        self.assertEqual(len(lines), 5)

    def test_recursion_counts_once(self):
        frame = ("walk", "cached")
        self.assertIn(" 100.00  100.00  cached         walk (cached)", table({("cached", frame, frame): 7}))

    def test_the_graph_is_well_formed_and_as_wide_as_the_samples(self):
        root = xml.etree.ElementTree.fromstring(flame_graph(self.stacks, "a < b"))
        boxes = {group[0].text: float(group[1].get("width")) for group in root.iter("{http://www.w3.org/2000/svg}g")}
        self.assertEqual(len(boxes), 7)
        self.assertAlmostEqual(boxes["all (3 samples, 100.00 %)"], 1384, delta=1)
        self.assertAlmostEqual(boxes["serve(int, char const*) (2 samples, 66.67 %)"], 1384 * 2 / 3, delta=1)
        self.assertIn("[libc.so.6 (deleted)] (2 samples, 66.67 %)", boxes)


if __name__ == "__main__":
    unittest.main()
