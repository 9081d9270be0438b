"""How costs grow with the number of running containers: each engine alone, from none to many."""

import statistics
import time

import processes
from commands import Failed, quiet, say, timed, until
from contenders import OBEYS
from section import point

GROUP = 10
"""Starts that a point of the curve is the median of."""


class Grown:
    """What was seen of one engine on the way."""

    CURVES = {
        "starts": ("The start of the n-th container: `run -d`", "ms"),
        "ps": ("`ps` with so many running", "ms"),
        "inside": ("`exec` of `true` in one of so many", "ms"),
        "ends": ("`stop` and `rm` of one of so many", "ms"),
        "monitor": ("Memory per container of what watches it: shim or monitor", "MiB PSS"),
        "service": ("Memory of the daemons with so many running", "MiB PSS"),
        "restarts": ("The daemon is killed and started: until `ps` is right again", "ms"),
    }

    def __init__(self, engine):
        self.engine = engine
        self.base = self.monitors()
        self.begun, self.trouble = [], None
        self.seen = {name: {} for name in self.CURVES}
        if engine.services:
            self.seen["service"][0] = [self.daemons()]

    def monitors(self):
        """kB of all shims or monitors."""
        return sum(processes.shares(processes.named(self.engine.monitors))) if self.engine.monitors else 0

    def daemons(self):
        """MiB of what all containers share, with what is kept ready for the next ones."""
        return (sum(processes.shares(processes.named(self.engine.services))) + self.base) / 1024

    def grow(self, count):
        while len(self.begun) < count:
            name = f"g{len(self.begun) + 1}"
            self.begun.append(1e3 * timed(self.engine.begin(name)))

    def look(self, rounds, restart):
        """Measures at the present number."""
        engine, number = self.engine, len(self.begun)
        spent = lambda words: 1e3 * timed(words)
        self.seen["ps"][number] = [spent(engine.ps()) for _ in range(2 * rounds)][1:]
        self.seen["inside"][number] = [spent(engine.inside("g1", "true")) for _ in range(rounds + 1)][1:]
        ends = []
        for turn in range(rounds):
            name = f"one-of-{number}-{turn}"
            quiet(engine.begin(name, OBEYS))
            ends.append(1e3 * (engine.end(name) + timed(engine.remove(name))))
        self.seen["ends"][number] = ends
        if engine.monitors:
            # What the last ones allocated to start is given back within a moment.
            time.sleep(1)
            self.seen["monitor"][number] = [max(0, self.monitors() - self.base) / number / 1024]
            self.seen["service"][number] = [self.daemons()]
        if restart and engine.daemon:
            self.seen["restarts"][number] = [1e3 * self.crash() for _ in range(rounds)]

    def crash(self):
        """Seconds from the daemon's death until a new one tells the right number."""
        time.sleep(0.3)
        begun = time.perf_counter()
        self.engine.kill_daemon()
        self.engine.start_daemon()
        until(f"{self.engine.name} sees {len(self.begun)} running", lambda: self.engine.running() == len(self.begun), every=0.001)
        return time.perf_counter() - begun

    def starts(self):
        """Points of ten starts each, closer together in the beginning."""
        ends = [end for end in (10, 20, 30, 50, 70, 100, 140, 200, 300, 400, 500, 600, 700, 800, 900, 1000) if end <= len(self.begun)]
        return [point(end, self.begun[end - GROUP:end]) for end in ends]

    def lines(self):
        """The points of each curve."""
        return {"starts": self.starts(), **{name: [point(x, taken) for x, taken in sorted(seen.items())]
                                            for name, seen in self.seen.items() if name != "starts"}}


def grow(engine, most, marks, restarts, rounds):
    """Grows one engine; what it did until it failed is kept, and that it failed."""
    grown = Grown(engine)
    try:
        for mark in [mark for mark in marks if mark <= most]:
            grown.grow(mark)
            grown.look(rounds, mark in restarts)
    except Failed as failure:
        grown.trouble = f"{engine.name} failed with {len(grown.begun)} running: {str(failure)[:300]}"
        say(grown.trouble)
    return grown


def report(grown, common, section):
    """The tables at the number that all of them reached, and the curves."""
    ours = grown["davit"]
    if len(ours.begun) < common:
        raise Failed(ours.trouble)
    section.text(*[line for each in grown.values() if each.trouble for line in (f"**{each.trouble}**", "")])
    at = lambda key, number: {name: each.seen[key].get(number, []) for name, each in grown.items()}
    first, last = ours.begun[:20], ours.begun[-20:]
    flat = {"davit": [statistics.median(last) / statistics.median(first)]}
    for name, each in grown.items():
        if name != "davit" and len(each.begun) >= 40:
            flat[name] = [statistics.median(each.begun[-20:]) / statistics.median(each.begun[:20])]
    idle = {name: each.seen["service"].get(0, []) for name, each in grown.items()}
    section.figure("idle", "Memory of the daemons, idle: an image is there, no container is", "MiB PSS", idle, plot=True,
                   note="Started anew, so that nothing is left of loading the image. What davit keeps ready for the next start is counted.")
    section.figure("monitor", f"Memory per container of its shim or monitor, with {common} running", "MiB PSS", at("monitor", common), plot=True)
    section.figure("ps", f"`ps` with {common} running", "ms", at("ps", common), plot=True)
    section.figure("restart", f"The daemon is killed and started, {common} running: until `ps` is right again", "ms", at("restarts", common), plot=True,
                   note="docker with `--live-restore`. From the kill, with the start of the new process.")
    section.figure("flat", "The median start of the last twenty by that of the first twenty", "×", flat,
                   note=f"davit's last twenty are before the {len(ours.begun):,}th; the others' are before the {common}th.")
    lines = {name: each.lines() for name, each in grown.items()}
    for key, (title, unit) in Grown.CURVES.items():
        section.curve(key, title, "running containers", unit, {name: curves[key] for name, curves in lines.items()})


def apart(davit, section):
    """The services as processes of their own, idle."""
    sizes = davit.sizes_apart()
    cells = " | ".join(f"{size / 1024:.1f}" for size in sizes.values())
    section.text("### The services as processes of their own, idle", "", f"| | {' | '.join(f'`{name}`' for name in sizes)} | together |",
                 "|---|" + "--:|" * (len(sizes) + 1), f"| MiB PSS | {cells} | {sum(sizes.values()) / 1024:.1f} |", "",
                 "By default they are all inside `davitd`.", "")
