"""One section of the report: figures and curves as data, which the store keeps and the page is made of."""

import json
import re
import statistics


def median(samples):
    return statistics.median(samples)


def spread(samples):
    """The 10th and the 90th percentile; of a few, the least and the most."""
    ordered = sorted(samples)
    tenth = len(ordered) // 10
    return ordered[tenth], ordered[-1 - tenth]


def point(x, samples):
    return [x, median(samples), *spread(samples)]


def better_by(ours, theirs, less):
    """How many times better the first one is."""
    if not ours or not theirs:
        return None
    return theirs / ours if less else ours / theirs


def shown(value):
    """A number with the digits that mean something."""
    if value is None:
        return "–"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 or not size else f"{value:.3f}"


def ranged(samples):
    low, high = spread(samples)
    return f"{shown(low)}–{shown(high)}"


class Section:
    """What a section's measurements came to, in the order of the page."""

    def __init__(self, title, about):
        self.content = {"title": title, "about": about, "parts": [], "figures": {}, "curves": {}}

    def text(self, *lines):
        """Markdown as it is."""
        self.content["parts"].append({"text": list(lines)})

    def figure(self, key, title, unit, samples, less=True, plot=False, note=""):
        """Samples of each contender; less of it is better, or more."""
        self.unseen(key, title, unit, samples, less)
        self.content["parts"].append({"figure": key, "plot": plot, "note": note})

    def unseen(self, key, title, unit, samples, less=True):
        """A figure that only the goals show."""
        rounded = {name: [float(f"{value:.5g}") for value in taken] for name, taken in samples.items() if taken}
        self.content["figures"][key] = {"title": title, "unit": unit, "less": less, "samples": rounded}

    def curve(self, key, title, x, y, lines, note=""):
        """Of each contender the points x, median, low, high."""
        rounded = {name: [[float(f"{value:.5g}") for value in each] for each in points] for name, points in lines.items() if points}
        self.content["curves"][key] = {"title": title, "x": x, "y": y, "lines": rounded}
        self.content["parts"].append({"curve": key, "note": note})


class Store:
    """The file of the sections that were measured so far."""

    def __init__(self, path):
        self.path = path
        self.sections = json.loads(path.read_text()) if path.exists() else {}

    def put(self, name, content):
        self.sections[name] = content
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Lists of numbers on a line each: a change shows what changed.
        text = json.dumps(self.sections, indent=1, ensure_ascii=False, sort_keys=False)
        self.path.write_text(_narrow(text) + "\n")


def _narrow(text):
    """Lists of numbers without line breaks."""
    return re.sub(r"\[([\s\d.,eE+-]+)\]", lambda found: "[" + ", ".join(found[1].replace("\n", "").replace(" ", "").split(",")) + "]", text)
