"""The report of the benchmark as one HTML page: plots, tables and configurations, in one file that loads nothing else."""

import dataclasses
import html
import re

TARGET = re.compile(r"^(<=|>=|<|>) (\d+(?:\.\d+)?)$")
LABEL_WIDTH, PLOT_WIDTH, VALUE_WIDTH = 230, 430, 230  # pixels
ROW, BAR, AXIS = 26, 14, 18
HEADROOM = 1.12  # of what is largest in a row

HOW_TO_READ = (
    "cached and its floor or peer are measured in the same run and in turns. A figure is the median of the turns, a ratio that "
    "of the medians; the spread is (largest - smallest) / median of the ratios of the single turns. A peer's configuration "
    "stands below its table. The load is the machine's load average before the case began.")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 980px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { margin-bottom: .1em; } h2 { margin-top: 1.8em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin-top: .6em; }
th, td { text-align: left; padding: 4px 8px; border-bottom: 1px solid #eee; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.met { color: #1a7f37; } .short { color: #b3261e; } .none { color: #777; }
.notes { font-size: 13px; color: #444; } code { background: #f4f4f1; padding: 0 3px; }
"""
COLORS = {"met": "#4f9d69", "short": "#c8553d", "none": "#8a8f98"}
COLUMNS = ("case", "ratio", "target", "cached", "floor or peer", "turns", "spread", "runs", "load", "verdict")
VERDICTS = {"met": "met", "short": "falls short", "none": "no target"}


@dataclasses.dataclass
class Target:
    """What a case's ratio is held against; `value` is None where the case states what is."""

    sign: str = ""
    value: float = None

    def met_by(self, ratio):
        tests = {"<=": ratio <= self.value, ">=": ratio >= self.value, "<": ratio < self.value, ">": ratio > self.value}
        return tests[self.sign]


def parse_target(text):
    found = TARGET.match(text)
    return Target(found[1], float(found[2])) if found else Target()


def verdict_of(outcome):
    """met, short or none."""
    target = parse_target(outcome.case.target)
    if target.value is None:
        return "none"
    return "met" if target.met_by(outcome.result.ratio) else "short"


# Plots ----------------------------------------------------------------------------------------------------------------------

def bars(outcomes):
    """A bar for the ratio of each case, on a scale of its own, with the target as a line and the turns as a whisker."""
    width, height = LABEL_WIDTH + PLOT_WIDTH + VALUE_WIDTH, ROW * len(outcomes) + AXIS
    rows = [bar(outcome, number * ROW) for number, outcome in enumerate(outcomes)]
    legend = (f'<text x="{LABEL_WIDTH}" y="{height - 4}" font-size="11" fill="#777">bar: ratio of the medians; thin line: the '
              "ratios of the single turns; dashed: the target. Each row has its own scale, from 0.</text>")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%" '
            f'font-family="sans-serif" font-size="13" role="img">{"".join(rows)}{legend}</svg>')


def bar(outcome, top):
    result, target = outcome.result, parse_target(outcome.case.target)
    low, high = min(result.ratios), max(result.ratios)
    largest = max(result.ratio, high, target.value or 0) * HEADROOM or 1

    def x(value):
        return LABEL_WIDTH + PLOT_WIDTH * value / largest

    middle, color = top + ROW / 2, COLORS[verdict_of(outcome)]
    ends = "".join(f" M{x(end):.1f} {middle - 4} v8" for end in (low, high))
    parts = [f'<text x="{LABEL_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{html.escape(result.case)}</text>',
             f'<rect x="{LABEL_WIDTH}" y="{middle - BAR / 2}" width="{x(result.ratio) - LABEL_WIDTH:.1f}" height="{BAR}" '
             f'fill="{color}"><title>{html.escape(result.line())}</title></rect>',
             f'<path d="M{x(low):.1f} {middle} H{x(high):.1f}{ends}" stroke="#222"/>',
             f'<text x="{LABEL_WIDTH + PLOT_WIDTH + 8}" y="{middle + 4}">{result.ratio:.3f} '
             f"(target {html.escape(outcome.case.target)})</text>"]
    if target.value is not None:
        parts.append(f'<path d="M{x(target.value):.1f} {top + 2} v{ROW - 4}" stroke="#222" stroke-width="2" '
                     'stroke-dasharray="4 2"/>')
    return "".join(parts)


# Tables ---------------------------------------------------------------------------------------------------------------------

def result_row(outcome, short):
    result, verdict = outcome.result, verdict_of(outcome)
    cells = [f"<td>{html.escape(result.case)}<br><span class=none>{html.escape(outcome.case.text)}</span></td>"]
    for text in (f"{result.ratio:.3f}", html.escape(outcome.case.target), f"{short(result.cached)} {result.unit}",
                 f"{short(result.floor)} {result.unit}", f"{min(result.ratios):.3f} to {max(result.ratios):.3f}",
                 f"{result.spread:.0f} %", str(result.runs), f"{outcome.load_average:.1f}"):
        cells.append(f"<td class=number>{text}</td>")
    return f"<tr>{''.join(cells)}<td class={verdict}>{VERDICTS[verdict]}</td></tr>"


def result_table(outcomes, short):
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    return f"<table><tr>{head}</tr>{''.join(result_row(outcome, short) for outcome in outcomes)}</table>"


def notes_of(outcomes):
    lines = [f"<li>{html.escape(outcome.case.name)}: {html.escape(note)}</li>"
             for outcome in outcomes for note in outcome.notes]
    return f"<ul class=notes>{''.join(lines)}</ul>" if lines else ""


def not_measured(outcomes):
    lines = [f"<li>{html.escape(outcome.case.name)}: " + ("not run: " if outcome.not_run else "not measured: ")
             + html.escape(outcome.not_run or outcome.failed) + "</li>" for outcome in outcomes if outcome.result is None]
    return f"<h2>Not measured</h2><ul>{''.join(lines)}</ul>" if lines else ""


# The page -------------------------------------------------------------------------------------------------------------------

def summary(outcomes):
    measured = [outcome for outcome in outcomes if outcome.result]
    counts = {verdict: sum(verdict_of(outcome) == verdict for outcome in measured) for verdict in VERDICTS}
    return (f"{len(measured)} of {len(outcomes)} cases measured: <span class=met>{counts['met']} meet their target</span>, "
            f"<span class=short>{counts['short']} fall short</span>, {counts['none']} have none.")


def subjects_of(outcomes):
    """The measured outcomes by subject, in the order of the cases."""
    subjects = {}
    for outcome in outcomes:
        if outcome.result:
            subjects.setdefault(outcome.case.subject, []).append(outcome)
    return subjects


def page(outcomes, facts, short):
    """The page. `facts` are (name, text) about machine, version and command; `short` writes a figure in few digits."""
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in facts)
    sections = "".join(f"<h2>{html.escape(subject[:1].upper() + subject[1:])}</h2>"
                       f"{bars(group)}{result_table(group, short)}{notes_of(group)}"
                       for subject, group in subjects_of(outcomes).items())
    return ("<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><title>cached: benchmark</title>"
            f"<style>{STYLE}</style></head><body><h1>cached: benchmark</h1><p>{summary(outcomes)}</p><table>{rows}</table>"
            f"<p class=notes>{HOW_TO_READ}</p>{sections}{not_measured(outcomes)}</body></html>\n")
