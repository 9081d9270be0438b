"""Times davit beside other engines and prints tables of ratios: one section of the report. Started by tests/bench/run."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import build
import network
import pull
import start
from contenders import Crun, Davit, Docker, Host, Podman, hide_unified, quiet

HEAD = """# Benchmarks

Written by `tests/bench/run`; run it again on your own machine. Read the ratios; the milliseconds are this machine's.
"""


def machine():
    return f"Linux {os.uname().release}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before"


def version(*words):
    return quiet(words).splitlines()[0]


class Bench:
    """A folder, and what is to be ended with it."""

    def __init__(self, options):
        self.options, self.running = options, []
        self.binaries = options.bin.resolve()
        # Short: a Unix socket's path has room for 107 bytes.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dvb-", dir="/tmp"))
        self.archive, self.traffic = self.folder / "busybox.tar", str(self.folder / "traffic")
        quiet(["deploy/busybox-image", "-o", str(self.archive)])
        quiet(["rustc", "-O", "--edition", "2024", "-C", "target-feature=+crt-static", "tests/bench/traffic.rs", "-o", self.traffic])

    def begun(self, thing):
        """Ends it with the bench, in reverse order."""
        self.running.append(thing)
        return thing

    def engine(self, kind, host, name):
        folder = self.folder / name
        on = host.on() if host else ()
        if kind is Davit:
            engine = Davit(folder, self.binaries, self.options.cgroup, on)
        else:
            engine = kind(folder, self.options.cgroup, on)
        self.begun(engine).load(self.archive)
        return engine

    def start(self):
        rounds = self.options.rounds
        davit = self.engine(Davit, None, "d")
        layer = json.loads(quiet(davit.words("image", "inspect", "busybox")))[0]["GraphDriver"]["Data"]["UpperDir"]
        rootfs = self.folder / "rootfs"
        shutil.copytree(layer, rootfs, symlinks=True)
        hide_unified()
        crun = self.begun(Crun(self.folder / "crun", rootfs, self.options.cgroup))
        podman = self.engine(Podman, None, "p")
        lines = [f"## Starts and memory, beside {version('crun', '--version')} and {version('podman', '--version')}", "",
                 f"{machine()}, {rounds} interleaved rounds.", ""]
        lines += start.starts(davit, crun, podman, rounds)
        return lines + start.memory(davit, podman, [int(n) for n in self.options.idle.split(",")])

    def network(self):
        rounds = self.options.network_rounds
        kinds = [(Davit, "dn"), *([(Docker, "kn")] if shutil.which("dockerd") else []), (Podman, "pn")]
        others = " and ".join(version(kind.program, "--version") for kind, _ in kinds[1:])
        lines = [f"## Network, beside {others}", "",
                 f"{machine()}, {rounds} interleaved rounds; each engine on a network namespace of its own as its host.", ""]
        pairs = []
        for kind, name in kinds:
            if kind is Podman:
                hide_unified()
            host = self.begun(Host())
            pairs.append(self.begun(network.Pair(self.engine(kind, host, name), host, self.traffic)))
        lines += network.throughput(pairs, rounds, self.options.seconds) + network.questions(pairs, rounds)
        for pair in pairs:
            pair.stop()
        davit = pairs[0]
        lines += network.crowd(davit.engine, davit.host, self.traffic, self.options.crowd, max(1, rounds // 3))
        return lines + network.ports(davit.engine, davit.host, self.traffic, max(1, rounds // 2))

    def pull(self):
        rounds = self.options.pull_rounds
        registry = self.begun(pull.Registry(self.folder / "registry"))
        kinds = [(Davit, "dp", ()), (Podman, "pp", ("--tls-verify=false",)),
                 *([(Docker, "kp", ())] if shutil.which("dockerd") else [])]
        contenders = [pull.Engine(self.engine(kind, None, name), *flags) for kind, name, flags in kinds]
        contenders.append(pull.Tools(self.folder / "tools"))
        others = [version(*words) for words in (("podman", "--version"), ("skopeo", "--version"), ("umoci", "--version"))]
        others += [version("dockerd", "--version")] if shutil.which("dockerd") else []
        lines = [f"## Pull and unpack, beside {' and '.join(others)}", "",
                 f"{machine()}, {rounds} interleaved rounds. {pull.FILES} files of {pull.BYTES // 10**6} MB in {pull.LAYERS} "
                 f"layers, {registry.bytes // 10**6} MB with gzip, from a docker-registry on this machine.", ""]
        return lines + pull.table(*pull.pulls(contenders, rounds))

    def build(self):
        rounds, again = self.options.build_rounds, 4
        folder = build.context(self.folder / "context")
        davit = self.engine(Davit, None, "db")
        docker = self.engine(Docker, None, "kb") if shutil.which("dockerd") else None
        hide_unified()
        buildah = self.begun(build.Buildah(self.folder / "bb", self.options.cgroup, self.archive))
        others = [version("buildah", "--version"), *([version("dockerd", "--version")] if docker else [])]
        lines = [f"## Builds, beside {' and '.join(others)}", "",
                 f"{machine()}, {rounds} interleaved rounds. A file of {build.STEPS} steps in two stages, three of them commands, "
                 f"and a folder of {build.FILES} files of {build.BYTES} bytes.", ""]
        cold, cached = build.builds(build.contenders(davit, docker, buildah, folder), rounds, again)
        lines += build.table("Nothing is kept but the base image", cold)
        return lines + build.table("Nothing changed", cached)

    def end_running(self):
        while self.running:
            self.running.pop().stop()

    def end(self):
        """Whatever failed, nothing of ours stays but what the kernel ends with this process' namespaces."""
        for thing in reversed(self.running):
            if hasattr(thing, "daemon") and thing.daemon.poll() is None:
                thing.daemon.kill()
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for at in reversed([at for at in mounts if at.startswith(str(self.folder))]):
            subprocess.run(["umount", "-l", at], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def kept(path, fresh):
    """The report with this section replaced, and the others as they were."""
    title = lambda section: section.split(",")[0]
    old = ["## " + section for section in path.read_text().split("\n## ")[1:]] if path.exists() else []
    sections = {title(section): section for section in [*old, fresh]}
    return "\n".join([HEAD, *(section.strip("\n") + "\n" for section in sections.values())])


def main():
    options = argparse.ArgumentParser()
    options.add_argument("section", choices=["start", "network", "pull", "build"])
    options.add_argument("--bin", type=pathlib.Path, required=True)
    options.add_argument("--cgroup", required=True)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--idle", default="1,50,200")
    options.add_argument("--network-rounds", type=int, default=9)
    options.add_argument("--seconds", type=int, default=2)
    options.add_argument("--crowd", type=int, default=200)
    options.add_argument("--pull-rounds", type=int, default=7)
    options.add_argument("--build-rounds", type=int, default=9)
    options.add_argument("--output", type=pathlib.Path)
    options = options.parse_args()
    # Ended from outside it ends what it began.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    bench = Bench(options)
    try:
        text = "\n".join(getattr(bench, options.section)())
        print(text, flush=True)
        bench.end_running()
        if options.output:
            options.output.write_text(kept(options.output, text))
    finally:
        bench.end()


main()
