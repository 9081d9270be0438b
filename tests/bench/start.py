"""What a start costs, and what an idle container does."""

import pathlib
import statistics
import sys
import time

from contenders import quiet, timed


def row(name, samples, base):
    ordered = sorted(samples)
    median = statistics.median(ordered)
    low, high = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    ratio = f"{base / median:.1f}×" if base else "–"
    return f"| {name} | {median * 1e3:.2f} | {low * 1e3:.2f}–{high * 1e3:.2f} | {ratio} |"


def starts(davit, crun, podman, rounds):
    """Interleaved, so that a busy moment of the machine hits all of them."""
    contenders = {
        "crun run, no network": lambda: crun.words("run"),
        "podman run --rm, bridge": lambda: podman.words("run", "--rm", "busybox", "true"),
        "podman run --rm, no network": lambda: podman.words("run", "--rm", "--network", "none", "busybox", "true"),
        "**davit run --rm, bridge**": lambda: davit.words("run", "--rm", "busybox", "true"),
        "**davit run --rm, no network**": lambda: davit.words("run", "--rm", "--network", "none", "busybox", "true"),
    }
    detached = {
        "crun run --detach, no network": lambda: crun.words("sleep", "--detach"),
        "podman run -d, bridge": lambda: podman.words("run", "-d", "busybox", "sleep", "1000"),
        "**davit run -d, bridge**": lambda: davit.words("run", "-d", "busybox", "sleep", "1000"),
    }
    lines = []
    for title, group, every in (("`run --rm` of `true`, to the exit code", contenders, rounds),
                                ("`run -d`, until it returns", detached, max(5, rounds // 2))):
        samples = {name: [] for name in group}
        for name, words in group.items():
            timed(words())
        for _ in range(every):
            for name, words in group.items():
                samples[name].append(timed(words()))
        base = statistics.median(next(iter(samples.values())))
        lines += [f"### {title}", "", "| | median ms | p10–p90 ms | faster than crun |", "|---|--:|--:|--:|"]
        lines += [row(name, taken, base) for name, taken in samples.items()]
        lines.append("")
        davit_ids = quiet(davit.words("ps", "-q")).split()
        if davit_ids:
            quiet(davit.words("rm", "-f", *davit_ids))
        crun.stop()
        podman.stop()
    return lines


def pss(name):
    """Proportional set sizes in kB of every process with this name."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() != name:
                continue
            text = (process / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        values = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        found.append((values["Pss"], values["Private_Dirty"] + values["Private_Clean"]))
    return found


def memory(davit, podman, counts):
    """PSS per idle container, of davit's shim and podman's conmon."""
    lines = ["### Memory per idle container", "", "| containers | davit-shim PSS kB | private kB | conmon PSS kB | private kB | less by |",
             "|--:|--:|--:|--:|--:|--:|"]
    running = 0
    for count in counts:
        while running < count:
            quiet(davit.words("run", "-d", "busybox", "sleep", "1000"))
            quiet(podman.words("run", "-d", "--network", "none", "busybox", "sleep", "1000"))
            running += 1
        time.sleep(1)
        ours, theirs = pss("davit-shim"), pss("conmon")
        if len(ours) < count or len(theirs) < count:
            sys.exit(f"bench: {len(ours)} shims and {len(theirs)} conmons for {count} containers")
        mean = lambda values: statistics.mean(values)
        a, b = mean([p for p, _ in ours]), mean([p for p, _ in theirs])
        lines.append(f"| {count} | {a:.0f} | {mean([p for _, p in ours]):.0f} | {b:.0f} | {mean([p for _, p in theirs]):.0f} | {b / a:.1f}× |")
    daemon = pss("davitd")
    lines += ["", f"`davitd` with {running} running: {daemon[0][0] / 1024:.1f} MiB PSS.", ""]
    return lines


