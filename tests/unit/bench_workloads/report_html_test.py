"""Tests of the report's page: verdicts, plots, and what was not measured."""

import html.parser
import pathlib
import re
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "bench"))

from harness import Case, Outcome, result_of, short  # noqa: E402
from report_html import page, parse_target, verdict_of  # noqa: E402


def some_case():
    """What it measures & how."""


def outcome(name, target, cached, floor, **more):
    return Outcome(Case(name, target, some_case), 0.25, result_of(name, "MB/s", cached, floor), **more)


class Checker(html.parser.HTMLParser):
    """Notes what a browser would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.loads = []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for key, value in attrs if key in ("src", "href", "xlink:href")]


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.outcomes = [outcome("fast", ">= 0.9", [95, 100, 120], [100, 100, 100], notes=["peer: rclone <v1>"]),
                         outcome("slow", "<= 1.5", [2, 3, 4], [1, 1, 1]),
                         outcome("plain", "stated", [1, 1, 1], [1, 1, 1]),
                         Outcome(Case("absent", ">= 3", some_case), 0.1, not_run="it needs a JuiceFS client"),
                         Outcome(Case("broken", ">= 3", some_case), 0.1, failed="no daemon")]
        self.page = page(self.outcomes, [("machine", "two <cores>")], short)

    def test_verdicts_follow_the_target(self):
        self.assertEqual([verdict_of(one) for one in self.outcomes[:3]], ["met", "short", "none"])
        for text, ratio, met in (("< 1", 1, False), ("<= 1", 1, True), (">= 3", 3, True), ("> 3", 3, False)):
            self.assertEqual(parse_target(text).met_by(ratio), met, text)
        self.assertIsNone(parse_target("stated").value)

    def test_what_was_not_run_counts_neither_as_met_nor_as_short(self):
        self.assertIn("3 of 5 cases measured: <span class=met>1 meet their target</span>, <span class=short>1 fall short</span>, "
                      "1 have none.", self.page)
        self.assertIn("absent: not run: it needs a JuiceFS client", self.page)
        self.assertIn("broken: not measured: no daemon", self.page)

    def test_plots_are_well_formed_and_show_ratio_spread_and_target(self):
        plots = re.findall(r"<svg.*?</svg>", self.page, re.DOTALL)
        self.assertEqual(len(plots), 1)
        root = xml.etree.ElementTree.fromstring(plots[0])
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}rect")), 3)
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}path")), 3 + 2, "whiskers, and targets where there are")

    def test_texts_are_escaped_and_nothing_is_loaded_from_elsewhere(self):
        self.assertIn("peer: rclone &lt;v1&gt;", self.page)
        self.assertIn("two &lt;cores&gt;", self.page)
        checker = Checker()
        checker.feed(self.page)
        self.assertEqual(checker.loads, [])
        self.assertNotIn("url(", self.page)


if __name__ == "__main__":
    unittest.main()
