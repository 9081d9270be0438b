"""Measures one section of the report and puts it into the store. Started by tests/bench/run, which gives it namespaces, a
folder and a cgroup."""

import argparse
import datetime
import os
import pathlib
import shutil
import signal
import sys
import time

import build
import commands
import files
import grow
import logs
import network
import pull
import start
import verbs
from bare import Bare
from commands import Failed, quiet, say
from contenders import Containerd, Davit, Docker, Host, Podman, hide_unified
from section import Section, Store

ROUNDS = {"start": 15, "verbs": 15, "grow": 3, "logs": 3, "files": 4, "pull": 5, "network": 4, "build": 5}
QUICK = {"start": 2, "verbs": 2, "grow": 1, "logs": 1, "files": 1, "pull": 1, "network": 1, "build": 1}


class Bench:
    """What is measured, and what is to be ended with it."""

    def __init__(self, options):
        self.options, self.running = options, []
        self.binaries, self.cgroup, self.folder = options.bin.resolve(), options.cgroup, options.folder
        # Short: a Unix socket's path has room for 107 bytes. And in memory, as it is on every host.
        self.run = pathlib.Path("/run/bench")
        self.run.mkdir()
        self.quick = options.quick
        commands.WARM = 0 if self.quick else 1
        self.rounds = options.rounds or (QUICK if self.quick else ROUNDS)[options.section]
        self.archive, self.traffic = self.folder / "busybox.tar", str(self.folder / "traffic")
        quiet(["deploy/busybox-image", "-o", str(self.archive)])
        if options.section == "network":
            quiet(["rustc", "-O", "--edition", "2024", "-C", "target-feature=+crt-static", "tests/bench/traffic.rs", "-o", self.traffic])

    def begun(self, thing):
        """Ends it with the bench, in reverse order."""
        self.running.append(thing)
        return thing

    def engine(self, kind, on=()):
        engine = self.begun(kind(self.folder / kind.name, self, on))
        engine.load(self.archive)
        return engine

    def engines(self, *kinds):
        """Those that are here, by their names. podman comes last, because crun needs a view of cgroups that the others don't."""
        wanted = [kind for kind in kinds if kind in (Davit, Podman) or shutil.which(kind.program)]
        found = []
        for kind in sorted(wanted, key=lambda kind: kind is Podman):
            if kind is Podman:
                hide_unified()
            found += self.perhaps(kind)
        return found

    def perhaps(self, kind):
        """The engine, or nothing where another one than ours does not come up: the rest is measured without it."""
        try:
            return [self.engine(kind)]
        except Failed as failure:
            if kind is Davit:
                raise
            say(f"without {kind.name}: {failure}")
            return []

    def bare(self, rootfs):
        """crun and runc, on files that all of their containers share."""
        return [self.begun(Bare(name, self.folder / name, self, rootfs)) for name in ("runc", "crun")]

    def rootfs(self, davit):
        path = self.folder / "rootfs"
        shutil.copytree(davit.image_folder(), path, symlinks=True)
        return path

    def about(self, *more):
        versions = {"davit": [str(self.binaries / "davit"), "--version"], "docker": ["dockerd", "--version"],
                    "podman": ["podman", "--version"], "containerd": ["containerd", "--version"],
                    "crun": ["crun", "--version"], "runc": ["runc", "--version"], "buildah": ["buildah", "--version"],
                    "skopeo": ["skopeo", "--version"], "umoci": ["umoci", "--version"]}
        beside = {"start": "podman docker containerd runc crun", "verbs": "podman docker containerd runc crun",
                  "grow": "podman docker containerd runc crun", "logs": "podman docker containerd runc crun", "files": "podman docker",
                  "pull": "podman docker containerd skopeo umoci", "network": "podman docker", "build": "buildah docker"}
        names = [name for name in ["davit", *beside[self.options.section].split()] if shutil.which(versions[name][0])]
        told = "; ".join(quiet(versions[name]).splitlines()[0].split(" (")[0] for name in names)
        when = f"{datetime.date.today():%Y-%m-%d}, Linux {os.uname().release}, {os.cpu_count()} processors, load " \
               f"{os.getloadavg()[0]:.1f} before."
        return [f"{told}. {when} {self.rounds} interleaved rounds.", *more]

    # ---- The sections.

    def start(self):
        section = Section("Starts", self.about())
        engines = self.engines(Davit, Docker, Containerd, Podman)
        bare = self.bare(self.rootfs(engines[0]))
        start.once(engines, bare, self.rounds, section)
        start.detached(engines, bare, self.rounds, section)
        start.rates(engines, bare, 8 if self.quick else 50, self.rounds, section)
        return section

    def verbs(self):
        section = Section("Exec, stop, rm", self.about())
        engines = self.engines(Davit, Docker, Containerd, Podman)
        verbs.verbs([*engines, *self.bare(self.rootfs(engines[0]))], self.rounds, section)
        return section

    def grow(self):
        common, most = (10, 20) if self.quick else (200, 1000)
        marks = sorted({1, 10, common, most, *(() if self.quick else (20, 50, 100, 500))})
        section = Section("From the first container to the thousandth", self.about(
            f"Each engine alone, davit to {most:,} containers; the others, which take minutes for so many on such a machine, to "
            f"{common}. Not interleaved, for each of them would be measured beside the containers of all others."))
        grown = {}
        def one(engine, to):
            if engine.daemon:
                engine.end_daemon()
                engine.start_daemon()
                quiet(engine.ps())
                time.sleep(3)
            grown[engine.name] = grow.grow(engine, to, marks, (10 if self.quick else 20, common, most), self.rounds)
            say(f"grow: {engine.name}: {len(grown[engine.name].begun)} containers")
            engine.stop()
        davit = self.engine(Davit)
        rootfs = self.rootfs(davit)
        one(davit, most)
        for kind in (Docker, Containerd):
            for engine in self.perhaps(kind) if shutil.which(kind.program) else ():
                one(engine, common)
        hide_unified()
        for engine in (*self.bare(rootfs), *self.perhaps(Podman)):
            one(engine, common)
        grow.report(grown, common, section)
        grow.apart(davit, section)
        return section

    def logs(self):
        section = Section("Logs", self.about())
        lines = self.folder / "lines"
        size = logs.lines_file(lines, 2_000_000 if self.quick else 200_000_000)
        engines = self.engines(Davit, Docker, Containerd, Podman)
        rootfs = self.rootfs(engines[0])
        os.link(lines, rootfs / "lines")
        # davit and podman cut long logs unless they are told not to; Debian's podman is told so.
        contenders = [logs.Files(engine, lines, self.folder / "raw.log") if engine.name == "containerd" else
                      logs.Engines(engine, lines, ("--log-opt", "max-size=1g") if engine.name == "davit" else ()) for engine in engines]
        contenders += [logs.Files(engine, lines, self.folder / f"{engine.name}.log") for engine in self.bare(rootfs)]
        logs.logs(contenders, size, self.rounds, section)
        return section

    def files(self):
        section = Section("Commit and cp", self.about())
        source = self.folder / "source"
        files.folder_of(source)
        files.files(self.engines(Davit, Docker, Podman), source, self.folder / "out", self.rounds, section)
        return section

    def pull(self):
        registry = self.begun(pull.Registry(self.folder / "registry"))
        section = Section("Pull and unpack", self.about(
            f"{pull.FILES:,} files of {pull.BYTES // 10**6} MB in {pull.LAYERS} layers and a small one on top, {registry.bytes // 10**6} MB "
            "with gzip, from a docker-registry on this machine."))
        engines = self.engines(Davit, Docker, Containerd, Podman)
        contenders = [pull.Puller(engine, *(("--tls-verify=false",) if engine.name == "podman" else ())) for engine in engines]
        pull.pulls([*contenders, self.begun(pull.Tools(self.folder / "tools"))], self.rounds, section)
        return section

    def network(self):
        section = Section("Network", self.about("Each engine on a network namespace of its own as its host."))
        rounds, seconds, crowd = self.rounds, 1 if self.quick else 2, 20 if self.quick else 200
        pairs = []
        for kind in (Davit, *([Docker] if shutil.which("dockerd") else []), Podman):
            if kind is Podman:
                hide_unified()
            host = self.begun(Host())
            pairs.append(self.begun(network.Pair(self.engine(kind, host.on()), host, self.traffic)))
        lines, streams = network.throughput(pairs, rounds, seconds)
        section.text(*lines)
        lines, asked = network.questions(pairs, rounds)
        section.text(*lines)
        for pair in pairs:
            pair.stop()
        davit = pairs[0]
        section.text(*network.crowd(davit.engine, davit.host, self.traffic, crowd, max(1, rounds // 3)))
        section.text(*network.ports(davit.engine, davit.host, self.traffic, max(1, rounds // 2)))
        # For the goals: the tables above have them already.
        section.unseen("to-host", "container to host", "Gbit/s", streams["container → host"], less=False)
        question = asked["127.0.0.1, a connection each"]
        section.unseen("published", "published port by 127.0.0.1", "requests/s",
                       {name: [1e6 / each for each in taken] for name, taken in question.items()}, less=False)
        return section

    def build(self):
        section = Section("Builds", self.about(
            f"A file of {build.STEPS} steps in two stages, three of them commands, and a folder of {build.FILES:,} files of "
            f"{build.BYTES:,} bytes."))
        folder = build.context(self.folder / "context")
        engines = self.engines(Davit, Docker)
        docker = engines[1] if len(engines) > 1 else None
        hide_unified()
        buildah = self.begun(build.Buildah(self.folder / "buildah", self.cgroup, self.archive))
        cold, cached = build.builds(build.contenders(engines[0], docker, buildah, folder), self.rounds, 4)
        ms = lambda taken: {name: [1e3 * each for each in seconds] for name, seconds in taken.items()}
        section.figure("cold", "Nothing is kept but the base image", "ms", ms(cold), plot=True)
        section.figure("cached", "Nothing changed", "ms", ms(cached), plot=True)
        return section

    # ---- The end.

    def end_running(self):
        while self.running:
            self.running.pop().stop()

    def end(self):
        """Whatever failed, no daemon of ours goes on; all else ends with this process' namespaces."""
        for thing in reversed(self.running):
            daemon = getattr(thing, "daemon", None)
            if daemon and daemon.poll() is None:
                daemon.kill()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("section", choices=ROUNDS)
    options.add_argument("--bin", type=pathlib.Path, required=True)
    options.add_argument("--cgroup", required=True)
    options.add_argument("--folder", type=pathlib.Path, required=True)
    options.add_argument("--store", type=pathlib.Path, required=True)
    options.add_argument("--rounds", type=int)
    options.add_argument("--quick", action="store_true")
    options = options.parse_args()
    # Ended from outside it ends what it began.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    begun = time.monotonic()
    bench = None
    try:
        bench = Bench(options)
        section = getattr(bench, options.section)()
        section.content["seconds"] = round(time.monotonic() - begun)
        Store(options.store).put(options.section, section.content)
        say(f"{options.section}: {time.monotonic() - begun:.0f} s")
        bench.end_running()
    except Failed as failure:
        sys.exit(f"bench: {options.section}: {failure}")
    finally:
        if bench:
            bench.end()


main()
