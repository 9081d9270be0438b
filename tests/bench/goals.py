"""What davit is to reach, row by row, and what is behind it where it is not there yet. `Goal.behind` is prose, written by
whoever last looked for the cause; everything else on the page is measured."""

import dataclasses
import typing

from section import median, spread

PEERS = ("crun", "runc", "podman", "containerd", "docker")


@dataclasses.dataclass
class Asked:
    """What a goal asks of the samples of a row: its words, and the value that davit must reach at most, or at least."""

    words: str
    bound: typing.Callable[[dict], float | None]


def at_most(value, unit):
    return Asked(f"below {value:g} {unit}", lambda others: value)


def at_least(value, unit):
    return Asked(f"above {value:g} {unit}", lambda others: value)


def times(factor, peer):
    """So many times faster than a peer."""
    return Asked(f"{factor} times faster than bare {peer}", lambda others: others[peer] / factor if peer in others else None)


def part(words, share):
    """A share of what the best of the others takes."""
    return Asked(f"{words} of the best of the others", lambda others: min(others.values()) * share if others else None)


def not_below():
    return Asked("not below the best of the others", lambda others: max(others.values()) if others else None)


@dataclasses.dataclass
class Goal:
    """A row: the figure that shows it (section/figure), what is asked, and prose."""

    work: str
    figure: str
    asked: Asked
    behind: str = ""

    def judged(self, figure):
        """The row's values, of a figure as the store has it."""
        samples, less = figure["samples"], figure["less"]
        if "davit" not in samples:
            return None
        ours = samples["davit"]
        others = {name: median(taken) for name, taken in samples.items() if name != "davit"}
        # Nothing is the best there can be, but no ratio: podman has no daemon.
        best = (min if less else max)(others, key=others.get) if others else None
        bound = self.asked.bound(others)
        return Judged(self, figure["unit"], less, ours, others, best, bound, samples)


@dataclasses.dataclass
class Judged:
    """A goal with what was measured."""

    goal: Goal
    unit: str
    less: bool
    ours: list
    others: dict
    best: str | None
    bound: float | None
    samples: dict

    @property
    def ratio(self):
        """How many times better davit is than the best of the others."""
        if self.best is None:
            return None
        ours, theirs = median(self.ours), self.others[self.best]
        if not ours or not theirs:
            return None
        return theirs / ours if self.less else ours / theirs

    @property
    def wanted(self):
        """The ratio that the goal asks for."""
        if self.best is None or not self.bound or not self.others[self.best]:
            return None
        theirs = self.others[self.best]
        return theirs / self.bound if self.less else self.bound / theirs

    @property
    def met(self):
        if self.bound is None:
            return "–"
        ours = median(self.ours)
        if ours <= self.bound if self.less else ours >= self.bound:
            return "yes"
        low, high = spread(self.ours)
        if self.goal.asked.words.startswith("not below") and high >= spread(self.samples[self.best])[0]:
            return "within the spread"
        return "no"


START = ("A profile of thirty runs has no peak: a container costs about 30 ms of processors in all, before and after its answer, of which davitd "
         "has 10 and shims 12. Of davitd's one half is the kernel's (files that are made and renamed, threads that are woken), the other is "
         "spread over gRPC's many small steps. Shims prepared ahead take a fifth to a third off the answer. Fewer files and fewer calls between "
         "request and gate would be next.")
MANY = "Two processors are busy all the time with what a container costs in all (the row of `run`); crun makes no network, no log and no record."
ONCE = "It was not taken apart yet."

GOALS = [
    Goal("`run --rm` of `true`, bridge network", "start/run", times(7, "crun"), START),
    Goal("the same without a network", "start/run-none", times(8, "crun"), START),
    Goal("`run -d` returns", "start/detached", times(10, "crun"), START),
    Goal("`exec` of `true`", "verbs/exec", times(4, "crun"),
         "The command line takes half a millisecond of its processor; then there are two calls to the shim, one that makes it and one that attaches. "
         "One call for both would be next."),
    Goal("`stop` of what obeys at once", "verbs/stop", at_most(4, "ms"), ONCE),
    Goal("`rm`", "verbs/rm", at_most(4, "ms"),
         "What is answered outlives a power cut, so two folders are synced, at once; the others sync nothing. The rest was not taken apart yet."),
    Goal("containers a second, in sequence", "start/sequence", at_least(150, "a second"), MANY),
    Goal("containers a second, 8 at a time", "start/at-once", at_least(150, "a second"), MANY),
    Goal("the last twenty starts of a thousand by the first twenty", "grow/flat", at_most(1.1, "×"),
         "Not taken apart yet. One thing is known to grow: the zone of names of a network is one file, written whole for each container."),
    Goal("`ps` with 200 running", "grow/ps", at_most(5, "ms"),
         "Not taken apart yet. Whole containers cross the wire, though `ps` shows seven columns of them."),
    Goal("daemons, idle", "grow/idle", at_most(12, "MiB PSS")),
    Goal("a container's shim or monitor, 200 running", "grow/monitor", at_most(0.2, "MiB PSS"),
         "By a few kilobytes."),
    Goal("daemon killed: `ps` right again, 200 running", "grow/restart", at_most(100, "ms"),
         "It was 400 ms as long as the engine waited for the first words of all shims; what is left was not taken apart yet."),
    Goal("cold pull of 7 layers", "pull/cold", part("a quarter", 0.25)),
    Goal("processors' time of that", "pull/processors", at_most(4, "s")),
    Goal("memory of that at most", "pull/most", at_most(64, "MiB")),
    Goal("one new layer of seven", "pull/new", at_most(40, "ms")),
    Goal("removing that image", "pull/removed", at_most(0.1, "s"),
         "A pull is on the disk when it answers, so to remove it gives back blocks of a file system that is mounted with `discard`; files that were never "
         "written back cost nothing. `rm -rf` of 20,000 synced files took 29 s on this machine, `rmi` of the same 14. The answer comes when the space is back."),
    Goal("a container writes its log", "logs/write", at_least(300, "MB/s"),
         "A bare runtime's program writes to the file itself; here each line gets its time and its stream on the way, which makes the file longer by two fifths."),
    Goal("reading it back", "logs/read", at_least(500, "MB/s"),
         "containerd, runc and crun leave a raw file, and `cat` of it is what is timed there: no stream, no time, nothing to take apart."),
    Goal("container to host", "network/to-host", not_below(), "The same path through the kernel for all: a bridge and a pair of links."),
    Goal("published port by 127.0.0.1, a connection each", "network/published", not_below()),
    Goal("build of ten steps, cold", "build/cold", part("half", 0.5), ONCE),
    Goal("build of ten steps, cached", "build/cached", part("a tenth", 0.1), ONCE),
    Goal("`commit` of 100 MB", "files/commit", part("half", 0.5), ONCE),
    Goal("`cp` of 10,000 files in", "files/in", part("half", 0.5), ONCE),
    Goal("`cp` of 10,000 files out", "files/out", part("half", 0.5), ONCE),
]
