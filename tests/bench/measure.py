"""Times davit beside bare crun and podman and prints tables of ratios. Started by tests/bench/run."""

import argparse
import ctypes
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

CRUN_CAPS = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"


def quiet(words, **options):
    """Runs a command to its end and fails loudly."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, words))}: exit {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def hide_unified():
    """crun 1.8 refuses a hybrid host whose unified hierarchy carries a controller; from here on this process and its
    children see none. davitd, already started, keeps its own view of mounts."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000) != 0:
        sys.exit(f"bench: unshare: {os.strerror(ctypes.get_errno())}")
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)


class Davit:
    """An engine of our own in a folder of the bench."""

    def __init__(self, folder, binaries):
        self.folder, self.binaries = folder, binaries
        self.socket = folder / "run" / "davitd.sock"
        self.cgroup = f"davit-bench-{os.urandom(4).hex()}"
        self.log = open(folder / "davitd.log", "w")
        self.daemon = subprocess.Popen(
            [binaries / "davitd", "--root", folder / "root", "--run", folder / "run", "--listen", f"unix://{self.socket}",
             "--cgroup-parent", f"/{self.cgroup}", "--bridge", "davit0", "--log-level", "warn"],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while subprocess.run(self.words("version"), capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit(f"bench: davitd does not answer; see {folder}/davitd.log")
            time.sleep(0.05)

    def words(self, *rest):
        return [str(self.binaries / "davit"), "--host", f"unix://{self.socket}", *rest]

    def stop(self):
        ids = quiet(self.words("ps", "-a", "-q")).split()
        for at in range(0, len(ids), 50):
            quiet(self.words("rm", "-f", *ids[at:at + 50]))
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(10)


class Crun:
    """A bundle made of the same files, run by bare crun without a network."""

    def __init__(self, folder, rootfs):
        self.folder = folder
        self.state = folder / "state"
        self.count = 0
        for name, command in (("run", ["true"]), ("sleep", ["sleep", "1000"])):
            bundle = folder / name
            bundle.mkdir(parents=True)
            quiet(["crun", "spec"], cwd=bundle)
            spec = json.loads((bundle / "config.json").read_text())
            spec["root"] = {"path": str(rootfs), "readonly": False}
            spec["process"]["terminal"] = False
            spec["process"]["args"] = command
            caps = ["CAP_" + cap for cap in CRUN_CAPS.split()]
            spec["process"]["capabilities"] = {kind: caps for kind in ("bounding", "effective", "permitted")}
            spec["linux"]["seccomp"] = seccomp_profile()
            (bundle / "config.json").write_text(json.dumps(spec))

    def words(self, bundle, *flags):
        self.count += 1
        return ["crun", "--root", str(self.state), "run", *flags, "--bundle", str(self.folder / bundle), f"bench{self.count}"]

    def stop(self):
        for name in quiet(["crun", "--root", str(self.state), "list", "-q"]).split():
            quiet(["crun", "--root", str(self.state), "delete", "-f", name])


def seccomp_profile():
    """An allow list of the size of the usual default profile."""
    for path in ("/usr/share/containers/seccomp.json", "/etc/containers/seccomp.json"):
        if os.path.exists(path):
            wide = json.loads(pathlib.Path(path).read_text())
            names = sorted({n for rule in wide["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
                            and not rule.get("includes", {}).get("caps") for n in rule["names"]})
            return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                    "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}
    return None


class Podman:
    """Debian's podman with a storage of its own."""

    def __init__(self, folder, archive):
        self.base = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"),
                     "--tmpdir", str(folder / "tmp"), "--cgroup-manager", "cgroupfs", "--runtime", "crun",
                     "--events-backend", "none"]
        quiet([*self.base, "load", "-q", "-i", str(archive)])

    def words(self, *rest):
        return [*self.base, *rest]

    def stop(self):
        quiet(self.words("rm", "-f", "-t", "0", "-a"))


def timed(words):
    """Seconds that a command takes, from the outside."""
    # A file, not a pipe: what runs on detached would hold a pipe open.
    with tempfile.TemporaryFile() as complaints:
        begun = time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=complaints, stdin=subprocess.DEVNULL)
        took = time.perf_counter() - begun
        if done.returncode != 0:
            complaints.seek(0)
            sys.exit(f"bench: {' '.join(words)}: exit {done.returncode}: {complaints.read().decode()}")
    return took


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


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--bin", type=pathlib.Path, required=True)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--idle", default="1,50,200")
    options.add_argument("--output", type=pathlib.Path)
    options = options.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="dvb-", dir="/tmp"))
    davit = None
    try:
        archive = folder / "busybox.tar"
        quiet(["deploy/busybox-image", "-o", str(archive)])
        davit = Davit(folder, options.bin.resolve())
        quiet(davit.words("load", "-q", "-i", str(archive)))
        layer = json.loads(quiet(davit.words("image", "inspect", "busybox")))[0]["GraphDriver"]["Data"]["UpperDir"]
        rootfs = folder / "rootfs"
        shutil.copytree(layer, rootfs, symlinks=True)
        hide_unified()
        crun, podman = Crun(folder / "crun", rootfs), Podman(folder / "podman", archive)
        versions = [quiet([tool, "--version"]).splitlines()[0] for tool in ("crun", "podman")]
        lines = [f"## davit beside {versions[0]} and {versions[1]}", "",
                 f"Linux {os.uname().release}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, "
                 f"{options.rounds} interleaved rounds. Read the ratios; the milliseconds are this machine's.", ""]
        lines += starts(davit, crun, podman, options.rounds)
        lines += memory(davit, podman, [int(n) for n in options.idle.split(",")])
        davit.stop()
        podman.stop()
        text = "\n".join(lines)
        print(text)
        if options.output:
            options.output.write_text(text + "\n")
    finally:
        if davit and davit.daemon.poll() is None:
            davit.daemon.kill()
        subprocess.run(["sh", "-c", f"for m in $(grep -o '{folder}[^ ]*' /proc/mounts | sort -r); do umount -l $m; done"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


main()
