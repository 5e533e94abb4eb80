"""Stacks out of `perf script`: a table of functions, and a flame graph as SVG that needs nothing but itself."""

import collections
import dataclasses
import html
import re
import zlib

SAMPLE = re.compile(r"^(?P<comm>\S.*?)\s+(?P<pid>\d+)/(?P<tid>\d+)\s*$")
FRAME = re.compile(r"^\s+[0-9a-f]+ (?P<symbol>.*) \((?P<object>[^()]*(?:\([^()]*\))?)\)$")
UNKNOWN = "[unknown]"
WIDTH, ROW, TEXT, MARGIN = 1400, 17, 11.0, 8  # pixels
CHARACTER_WIDTH = 6.6
NARROWEST = 0.4
TITLE_HEIGHT = 44


def stacks_of(script, names):
    """Counts the stacks of the processes in `names` (process id to name): {(name, outermost, ..., innermost): samples}.

    `script` are the lines of `perf script -F comm,pid,tid,ip,sym,dso`. A frame is (symbol, file).
    """
    stacks = collections.Counter()
    root, frames = None, []
    for line in [*script, ""]:
        if not line.strip():
            if root is not None and frames:
                stacks[(root, *reversed(frames))] += 1
            root, frames = None, []
        elif found := SAMPLE.match(line):
            root = names.get(int(found["pid"]))
        elif found := FRAME.match(line):
            frames.append((symbol_of(found["symbol"]), found["object"].rpartition("/")[2]))
    return stacks


def symbol_of(text):
    """Without what is different from one call to the next."""
    return re.sub(r"\+0x[0-9a-f]+$", "", text)


# The table -------------------------------------------------------------------------------------------------------------

def table(stacks):
    """Lines for a person: of each function how many of the samples were in it and how many in it or below it."""
    own, inclusive, total = collections.Counter(), collections.Counter(), sum(stacks.values())
    for (root, *frames), count in stacks.items():
        own[root, frames[-1]] += count
        for frame in set(frames):
            inclusive[root, frame] += count
    lines = [f"{total} samples", f"{'self %':>7} {'total %':>7}  {'process':14} function (file)"]
    for (root, (symbol, file)), count in sorted(own.items(), key=lambda item: (-item[1], item[0])):
        below = 100 * inclusive[root, (symbol, file)] / total
        lines.append(f"{100 * count / total:7.2f} {below:7.2f}  {root:14} {symbol} ({file})")
    return lines


# The graph -------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Node:
    """A function in its place below those that called it."""

    label: str
    samples: int = 0
    below: dict = dataclasses.field(default_factory=dict)

    def depth(self):
        return 1 + max((node.depth() for node in self.below.values()), default=0)


def tree_of(stacks):
    top = Node("all")
    for (root, *frames), count in sorted(stacks.items()):
        top.samples += count
        node = top
        for key, label in [(root, root), *((frame, frame[0] if frame[0] != UNKNOWN else f"[{frame[1]}]") for frame in frames)]:
            node = node.below.setdefault(key, Node(label))
            node.samples += count
    return top


def flame_graph(stacks, title):
    """The SVG: a box for each function, as wide as its samples, on top of the one that called it."""
    top = tree_of(stacks)
    height = TITLE_HEIGHT + top.depth() * ROW + MARGIN
    boxes = []
    if top.samples:
        draw(top, MARGIN, height - MARGIN - ROW, (WIDTH - 2 * MARGIN) / top.samples, top.samples, boxes)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="monospace" font-size="{TEXT}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fbfaf7"/>',
        f'<text x="{MARGIN}" y="20" font-size="15">{html.escape(title)}</text>',
        f'<text x="{MARGIN}" y="36" fill="#666">{top.samples} samples; width is time on a CPU; point at a box for its name'
        "</text>",
        *boxes, "</svg>", ""])


def draw(node, left, y, width_of_sample, all_samples, boxes):
    width = node.samples * width_of_sample
    if width < NARROWEST:
        return
    share = f"{node.samples} samples, {100 * node.samples / all_samples:.2f} %"
    room = int((width - 4) / CHARACTER_WIDTH)
    shown = node.label if len(node.label) <= room else node.label[:room - 2] + ".." if room > 4 else ""
    text = f'<text x="{left + 2:.2f}" y="{y + 12}">{html.escape(shown)}</text>' if shown else ""
    boxes.append(f'<g><title>{html.escape(node.label)} ({share})</title>'
                 f'<rect x="{left:.2f}" y="{y}" width="{max(width - 0.3, 0.2):.2f}" height="{ROW - 1}" '
                 f'fill="{color_of(node.label)}" rx="1"/>{text}</g>')
    for child in sorted(node.below.values(), key=lambda child: child.label):
        draw(child, left, y - ROW, width_of_sample, all_samples, boxes)
        left += child.samples * width_of_sample


def color_of(label):
    """A warm color, always the same for the same name."""
    number = zlib.crc32(label.encode())
    return f"rgb({215 + number % 40},{110 + (number >> 8) % 110},{50 + (number >> 16) % 50})"
