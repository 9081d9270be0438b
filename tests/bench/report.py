"""Writes the page and its plots from the store; measures nothing. `report.py write|check FOLDER`."""

import pathlib
import sys

import svg
from goals import GOALS, PEERS
from section import Store, better_by, median, ranged, shown

ORDER = ("start", "verbs", "grow", "logs", "files", "pull", "build", "network")
HEAD = """# Benchmarks

Written by `tests/bench/run`, tables, plots and all; run it again on your own machine, as root and after `deploy/build`, or a part of
it (`--only start`). Read the ratios; the milliseconds are this machine's. Everything is timed from outside, command line included.
In a section the contenders take turns, each round beginning with another one. A spread is the 10th to the 90th percentile, and of
fewer than ten rounds the least to the most. The figures as they were taken are in [results.json](benchmarks/results.json).
"""


class Page:
    """The page and its plots, by their paths below the folder."""

    def __init__(self, sections):
        self.sections, self.files = sections, {}

    def written(self):
        lines = [HEAD, *self.goals()]
        for name in ORDER:
            if name in self.sections:
                lines += self.section(name, self.sections[name])
        self.files["benchmarks.md"] = "\n".join(lines).rstrip("\n") + "\n"
        return self.files

    def plot(self, name, title, drawn):
        """Keeps a plot, and answers with the line that shows it."""
        self.files[f"benchmarks/{name}.svg"] = drawn
        return [f"![{title.replace('`', '')}](benchmarks/{name}.svg)", ""]

    # ---- The goals.

    def judged(self):
        """The rows that were measured, and the goals that were not."""
        rows, missing = [], []
        for goal in GOALS:
            section, key = goal.figure.split("/")
            figure = self.sections.get(section, {}).get("figures", {}).get(key)
            row = figure and goal.judged(figure)
            (rows if row else missing).append(row or goal)
        return rows, missing

    def goals(self):
        rows, missing = self.judged()
        if not rows:
            return []
        lines = ["## Goals", "", "Medians. *Better by*: how many times better davit is than the best of the others, which is in bold. "
                 "In the row of builds podman's column is buildah's, and docker's is the better of its two builders.", "",
                 f"| | davit | spread | {' | '.join(PEERS)} | unit | better by | goal | met |", "|---|--:|--:|" + "--:|" * len(PEERS) + "---|--:|---|---|"]
        for row in rows:
            cells = " | ".join(self.cell(row, peer) for peer in PEERS)
            ratio = f"{shown(row.ratio)}×" if row.ratio else "–"
            lines.append(f"| {row.goal.work} | {shown(median(row.ours))} | {ranged(row.ours)} | {cells} | {row.unit} | {ratio} | "
                         f"{row.goal.asked.words} | {row.met} |")
        lines += [f"| {goal.work} | – | – |{' |' * len(PEERS)} | – | {goal.asked.words} | not measured |" for goal in missing]
        lines.append("")
        drawn = [(row.goal.work.replace("`", ""), row.ratio, row.wanted) for row in rows if row.ratio]
        title = "How many times better than the best of the others; dashed: the goal"
        lines += self.plot("goals", title, svg.ratios(title, drawn))
        return lines + self.behind(rows)

    @staticmethod
    def cell(row, peer):
        """The best of a peer's variants."""
        known = {"podman": ("podman", "buildah"), "docker": ("docker", "docker, BuildKit")}.get(peer, (peer,))
        here = {name: row.others[name] for name in known if name in row.others}
        if not here:
            return ""
        name = (min if row.less else max)(here, key=here.get)
        return f"**{shown(here[name])}**" if name == row.best else shown(here[name])

    @staticmethod
    def behind(rows):
        late = [row for row in rows if row.met != "yes" or (row.ratio or 1) < 1]
        if not late:
            return []
        told = [f"- **{row.goal.work}**: {row.goal.behind or 'not looked into yet.'}" for row in late]
        return ["### Where davit is not there, or not the first, and what is behind it", "", *told, ""]

    # ---- The sections.

    def section(self, name, content):
        lines = [f"## {content['title']}", "", *[line for text in content["about"] for line in (text, "")]]
        for piece in content["parts"]:
            if "text" in piece:
                lines += piece["text"]
            elif "figure" in piece:
                lines += self.figure(name, content["figures"][piece["figure"]], piece)
            else:
                lines += self.curve(name, content["curves"][piece["curve"]], piece)
        return lines

    def figure(self, section, figure, piece):
        samples, unit, less = figure["samples"], figure["unit"], figure["less"]
        ranked = sorted(samples, key=lambda name: median(samples[name]), reverse=not less)
        lines = [f"### {figure['title']}", "", *([piece["note"].strip(), ""] if piece["note"] else [])]
        if "davit" not in samples:
            return lines
        ours = median(samples["davit"])
        lines += [f"| | median {unit} | spread | best | davit is better by |", "|---|--:|--:|--:|--:|"]
        for name in davit_first(ranked):
            taken = samples[name]
            ratio = better_by(ours, median(taken), less)
            title, factor = (f"**{name}**", "") if name == "davit" else (name, f"{shown(ratio)}×" if ratio else "–")
            lines.append(f"| {title} | {shown(median(taken))} | {ranged(taken)} | {shown((min if less else max)(taken))} | {factor} |")
        lines.append("")
        if piece["plot"]:
            rows = [(name, median(samples[name]), min(samples[name]), max(samples[name])) for name in ranked]
            lines += self.plot(f"{section}-{piece['figure']}", figure["title"], svg.bars(figure["title"].replace("`", ""), unit, rows))
        return lines

    def curve(self, section, curve, piece):
        lines, title = curve["lines"], curve["title"]
        xs = sorted({point[0] for line in lines.values() for point in line})
        # The table has what several of them were asked at; the plot has all of it.
        wanted = [x for x in xs if x in (0, 1, 10, 20, 50, 100, 200, 500, 1000)]
        told = [f"### {title}", "", *([piece["note"], ""] if piece["note"] else [])]
        told += [f"| {curve['y']} | {' | '.join(f'{x:,.0f}' for x in wanted)} |", "|---|" + "--:|" * len(wanted)]
        for name in davit_first(lines):
            here = {point[0]: point[1] for point in lines[name]}
            cells = " | ".join(shown(here[x]) if x in here else "" for x in wanted)
            told.append(f"| {f'**{name}**' if name == 'davit' else name} | {cells} |")
        told.append("")
        drawn = {name: line for name, line in lines.items() if any(point[1] > 0 for point in line)}
        return told + self.plot(f"{section}-{piece['curve']}", title, svg.curves(title.replace("`", ""), curve["x"], curve["y"], drawn))


def davit_first(names):
    """davit, then the others in their order."""
    return sorted(names, key=lambda name: name != "davit")


def checked(folder, page):
    """Sentences of what is wrong with the page and with these programs."""
    for path in pathlib.Path(__file__).parent.glob("*.py"):
        compile(path.read_text(), path, "exec")
    if not page.sections:
        return []
    files = page.written()
    there = {str(path.relative_to(folder)) for path in (folder / "benchmarks").glob("*.svg")}
    stale = [path for path, text in files.items() if not (folder / path).exists() or (folder / path).read_text() != text]
    wrong = [f"{path} is not what was measured; run tests/bench/run --write" for path in sorted({*stale, *(there - files.keys())})]
    rows, missing = page.judged()
    wrong += [f"{goal.work}: not measured; run tests/bench/run --only {goal.figure.split('/')[0]}" for goal in missing]
    return wrong + [f"{row.goal.work}: not met, and tests/bench/goals.py does not say why" for row in rows
                    if row.met == "no" and not row.goal.behind]


def main():
    what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    page = Page(Store(folder / "benchmarks/results.json").sections)
    if what == "check":
        if wrong := checked(folder, page):
            sys.exit("\n".join(f"bench: {each}" for each in wrong))
        return
    if not page.sections:
        sys.exit("bench: nothing was measured yet")
    files = page.written()
    (folder / "benchmarks").mkdir(parents=True, exist_ok=True)
    for path in (folder / "benchmarks").glob("*.svg"):
        path.unlink()
    for path, text in files.items():
        (folder / path).write_text(text)
    print(folder / "benchmarks.md")


main()
