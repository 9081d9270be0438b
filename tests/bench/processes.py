"""What /proc says of the processes of an engine: memory in kB, time in seconds."""

import os
import pathlib

PROC = pathlib.Path("/proc")


def _read(path):
    """Its text, or nothing when the process has gone meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def named(names):
    """Processes by their name, which the kernel cuts after 15 bytes."""
    short = {name[:15] for name in names}
    return [int(process.name) for process in PROC.glob("[0-9]*") if _read(process / "comm").strip() in short]


def family(pids):
    """These processes and all below them."""
    found, todo = [], list(pids)
    while todo:
        pid = todo.pop()
        found.append(pid)
        for thread in PROC.glob(f"{pid}/task/[0-9]*/children"):
            todo += map(int, _read(thread).split())
    return found


def _field(pid, file, name):
    lines = [line for line in _read(PROC / str(pid) / file).splitlines() if line.startswith(name + ":")]
    return int(lines[0].split()[1]) if lines else 0


def shares(pids):
    """kB of each, with what it shares divided among those who share it."""
    sizes = [_field(pid, "smaps_rollup", "Pss") for pid in pids]
    return [size for size in sizes if size]


def resident(pids):
    """kB that they have together now."""
    return sum(_field(pid, "status", "VmRSS") for pid in pids)


def most_resident(pids):
    """kB that they had together at most since they were last forgotten."""
    return sum(_field(pid, "status", "VmHWM") for pid in pids)


def forget_most(pids):
    for pid in pids:
        (PROC / str(pid) / "clear_refs").write_text("5")


def processor_time(pids):
    """Seconds that they and the children that they waited for used, by themselves and in the kernel."""
    total = 0
    for pid in pids:
        # After the name, which may have anything in it.
        fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")
