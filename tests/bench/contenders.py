"""The engines that are measured, each with storage of its own and, where it has links, on a host of its own. What each of
them has fixed places for, below /etc, /run and /var/lib, is the bench's alone."""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import time

import processes
from commands import Failed, answers, quiet, timed, until

SLEEP = ["sleep", "100000"]
OBEYS = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]
"""As the first process of a container, sleep itself would not hear the signal that asks it to end."""


def hide_unified():
    """crun 1.8 refuses a hybrid host whose unified hierarchy carries a controller; from here on this process and its
    children see none. Daemons that are already started keep their own view of mounts."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000) != 0:
        raise Failed(f"unshare: {os.strerror(ctypes.get_errno())}")
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        quiet(["umount", "/sys/fs/cgroup/unified"])


class Host:
    """A network namespace with an address, 10.99.0.1, and a neighbour at the other end of its link, 10.99.0.2: no
    engine's rules are in another one's way."""

    OWN, FAR = "10.99.0.1", "10.99.0.2"

    def __init__(self):
        self.here, self.far = self._namespace(), self._namespace()
        ip = [*self.on(), "ip"]
        quiet([*ip, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", str(self.far.pid)])
        for end, address in ((self.on(), self.OWN), (self.beside(), self.FAR)):
            quiet([*end, "ip", "addr", "add", f"{address}/24", "dev", "lan0"])
            quiet([*end, "ip", "link", "set", "lan0", "up"])
        quiet([*self.beside(), "ip", "route", "add", "default", "via", self.OWN])

    @staticmethod
    def _namespace():
        """A process in a network namespace of its own."""
        held = subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && exec sleep inf"],
                                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if held.stdout.readline() != b"up\n":
            raise Failed("cannot make a network namespace")
        return held

    def on(self):
        """The beginning of a command that runs on this host."""
        return ["nsenter", f"--net=/proc/{self.here.pid}/ns/net", "--"]

    def beside(self):
        """The beginning of a command that runs on the neighbour."""
        return ["nsenter", f"--net=/proc/{self.far.pid}/ns/net", "--"]

    def stop(self):
        for held in (self.here, self.far):
            held.kill()
            held.wait()


# ---- What they have in common. -------------------------------------------------------------------------------------

class Engine:
    """An engine with docker's verbs. Each method answers with a command but where it says otherwise."""

    monitors, services = (), ()
    """Names of the processes that each container has one of, and of those that all containers share."""
    daemon = None

    def words(self, *rest):
        raise NotImplementedError

    def once(self, network=True):
        """A container that ends at once, and goes."""
        return self.words("run", "--rm", *self._network(network), "busybox", "true")

    def begin(self, name, command=SLEEP, network=True, flags=()):
        """A container that stays."""
        return self.words("run", "-d", "--name", name, *self._network(network), *flags, "busybox", *command)

    @staticmethod
    def _network(network):
        return [] if network else ["--network", "none"]

    def inside(self, name, *command):
        return self.words("exec", name, *command)

    def end(self, name):
        """Seconds until a container that obeys has ended."""
        return timed(self.words("stop", name))

    def remove(self, name):
        return self.words("rm", name)

    def ps(self):
        return self.words("ps")

    def running(self):
        """How many it says that run."""
        return len(quiet(self.words("ps", "-q")).split())

    def load(self, archive):
        quiet(self.words("load", "-q", "-i", str(archive)))

    def clear(self):
        """Removes all containers."""
        ids = quiet(self.words("ps", "-a", "-q")).split()
        for at in range(0, len(ids), 50):
            quiet(self.words("rm", "-f", *ids[at:at + 50]))

    # ---- With a daemon.

    def start_daemon(self):
        raise NotImplementedError

    def launch(self, words):
        """Starts the daemon, and waits until it answers."""
        self.daemon = subprocess.Popen([*map(str, words)], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        until(f"{self.name} answers; see {self.log.name}",
              lambda: self.daemon.poll() is not None or answers(self.words("version")), every=0.005)
        if self.daemon.poll() is not None:
            with open(self.log.name) as log:
                raise Failed(f"{self.name} ended: {log.read()[-2000:]}")

    def kill_daemon(self):
        """As a crash would."""
        self.daemon.kill()
        self.daemon.wait()

    def end_daemon(self):
        end(self.daemon)

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.clear()
            self.end_daemon()


def end(process):
    """Asks a process to end, and makes it where it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Davit(Engine):
    """An engine of our own in a folder of the bench."""

    name = "davit"
    monitors, services = ("davit-shim",), ("davitd",)

    def __init__(self, folder, bench, on=()):
        self.folder, self.bench, self.on = folder, bench, list(on)
        folder.mkdir(exist_ok=True)
        self.run_folder = bench.run / folder.name
        self.socket = self.run_folder / "davitd.sock"
        self.log = open(folder / "davitd.log", "w")
        self.start_daemon()

    def start_daemon(self, *flags):
        self.launch([*self.on, self.bench.binaries / "davitd", "--root", self.folder / "root", "--run", self.run_folder, "--listen",
                     f"unix://{self.socket}", "--cgroup-parent", f"/{self.bench.cgroup}/davit", "--bridge", "davit0",
                     "--log-level", "warn", *flags])

    def words(self, *rest):
        return [str(self.bench.binaries / "davit"), "--host", f"unix://{self.socket}", *rest]

    def image_folder(self):
        """Where the files of the image's only layer are."""
        return json.loads(quiet(self.words("image", "inspect", "busybox")))[0]["GraphDriver"]["Data"]["UpperDir"]

    def sizes_apart(self):
        """kB of each process, idle, when the services are processes of their own."""
        self.end_daemon()
        address = {name: f"unix://{self.run_folder}/{name}.sock" for name in ("image", "volume", "network", "build")}
        flags = {"network": ["--run", self.run_folder, "--instance", "bench", "--bridge", "davit0"],
                 "build": ["--engine", f"unix://{self.socket}"]}
        begun = {}
        try:
            for name, listen in address.items():
                words = [self.bench.binaries / f"davit-{name}", "--root", self.folder / "root", "--listen", listen, *flags.get(name, [])]
                begun[f"davit-{name}"] = subprocess.Popen([*self.on, *map(str, words)], stdout=self.log, stderr=self.log)
                until(f"davit-{name} listens", lambda: os.path.exists(listen.removeprefix("unix://")))
            self.start_daemon(*(word for name, listen in address.items() for word in (f"--{name}-service", listen)))
            begun["davitd"] = self.daemon
            quiet(self.ps())
            time.sleep(2)
            prepared = processes.shares(processes.named(self.monitors))
            sizes = {name: sum(processes.shares([process.pid])) for name, process in begun.items()}
            return {**sizes, **({"what is kept ready": sum(prepared)} if prepared else {})}
        finally:
            for process in reversed(begun.values()):
                end(process)


class Podman(Engine):
    """Debian's podman with a storage of its own."""

    name = program = "podman"
    monitors, services = ("conmon",), ("aardvark-dns",)

    def __init__(self, folder, bench, on=()):
        self.cgroup = bench.cgroup
        self.base = [*on, "podman", "--root", str(folder / "root"), "--runroot", str(bench.run / folder.name),
                     "--tmpdir", str(folder / "tmp"), "--cgroup-manager", "cgroupfs", "--runtime", "crun",
                     "--network-config-dir", str(folder / "networks"), "--events-backend", "none"]

    def words(self, verb, *rest):
        # The journal, its default, is not there.
        extra = ["--cgroup-parent", f"/{self.cgroup}/podman", "--log-driver", "k8s-file"] if verb == "run" else []
        return [*self.base, verb, *extra, *rest]

    def clear(self):
        quiet(self.words("rm", "-f", "-t", "0", "-a"))

    stop = clear


class Docker(Engine):
    """Debian's dockerd with a storage of its own."""

    name, program = "docker", "dockerd"
    monitors, services = ("containerd-shim-runc-v2",), ("dockerd", "containerd", "docker-proxy")

    def __init__(self, folder, bench, on=()):
        self.folder, self.bench, self.on = folder, bench, list(on)
        folder.mkdir(exist_ok=True)
        self.run_folder = bench.run / folder.name
        self.socket = self.run_folder / "docker.sock"
        self.run_folder.mkdir()
        self.log = open(folder / "dockerd.log", "w")
        # Debian's: another one may be before it in the path.
        self.client = shutil.which("docker", path="/usr/bin") or "docker"
        self.start_daemon()

    def start_daemon(self):
        self.launch([*self.on, "dockerd", "--host", f"unix://{self.socket}", "--data-root", self.folder / "root", "--exec-root",
                     self.run_folder / "exec", "--pidfile", self.run_folder / "dockerd.pid", "--cgroup-parent",
                     f"/{self.bench.cgroup}/docker", "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2",
                     "--live-restore"])

    def words(self, *rest):
        return [self.client, "--host", f"unix://{self.socket}", *rest]


class Containerd(Engine):
    """Debian's containerd with a storage of its own, and its ctr; Debian's CNI plugins make its bridge."""

    name = program = "containerd"
    monitors, services = ("containerd-shim-runc-v2",), ("containerd",)
    IMAGE = "docker.io/library/busybox:latest"

    def __init__(self, folder, bench, on=()):
        self.folder, self.bench, self.on, self.count = folder, bench, list(on), 0
        folder.mkdir(exist_ok=True)
        self.run_folder = bench.run / folder.name
        self.socket = self.run_folder / "containerd.sock"
        self.log = open(folder / "containerd.log", "w")
        (folder / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True,
                  "ipam": {"type": "host-local", "dataDir": str(self.run_folder / "leases"), "ranges": [[{"subnet": "10.88.0.0/16"}]],
                           "routes": [{"dst": "0.0.0.0/0"}]}}
        for place in ("/etc/cni/net.d", "/opt/cni"):
            shutil.rmtree(place, ignore_errors=True)
            os.makedirs(place)
        os.symlink("/usr/lib/cni", "/opt/cni/bin")
        with open("/etc/cni/net.d/bench.conflist", "w") as file:
            json.dump({"cniVersion": "0.4.0", "name": "bench", "plugins": [bridge]}, file)
        self.start_daemon()

    def start_daemon(self):
        self.launch([*self.on, "containerd", "--config", self.folder / "config.toml", "--root", self.folder / "root", "--state",
                     self.run_folder / "state", "--address", self.socket])

    def words(self, *rest):
        return [*self.on, "ctr", "--address", str(self.socket), *rest]

    def _run(self, name, *flags, network=True):
        cni = ["--cni"] if network else []
        return self.words("run", *cni, "--cgroup", f"/{self.bench.cgroup}/containerd/{name}", *flags, self.IMAGE, name)

    def once(self, network=True):
        self.count += 1
        return [*self._run(f"once{self.count}", "--rm", network=network), "true"]

    def begin(self, name, command=SLEEP, network=True, flags=()):
        return [*self._run(name, "-d", *flags, network=network), *command]

    def inside(self, name, *command):
        self.count += 1
        return self.words("task", "exec", "--exec-id", f"e{self.count}", name, *command)

    def end(self, name):
        rows = [line.split() for line in quiet(self.words("task", "ls")).splitlines()]
        pid = next(int(row[1]) for row in rows if row[0] == name)
        return signalled(self.words("task", "kill", "-s", "SIGTERM", name), pid)

    def remove(self, name):
        script = 'n=$1; shift; "$@" task rm "$n" && "$@" container rm "$n"'
        return ["sh", "-c", script, "sh", name, *self.words()]

    def ps(self):
        return self.words("task", "ls")

    def running(self):
        return quiet(self.words("task", "ls")).count("RUNNING")

    def load(self, archive):
        quiet(self.words("image", "import", str(archive)))

    def clear(self):
        tasks = [line.split()[0] for line in quiet(self.words("task", "ls")).splitlines()[1:]]
        for at in range(0, len(tasks), 50):
            quiet(self.words("task", "rm", "-f", *tasks[at:at + 50]))
        names = quiet(self.words("container", "ls", "-q")).split()
        for at in range(0, len(names), 50):
            quiet(self.words("container", "rm", *names[at:at + 50]))
        # ctr gives addresses back only where it waited for the end itself.
        shutil.rmtree(self.run_folder / "leases", ignore_errors=True)


def signalled(words, pid):
    """Seconds from a command that sends a signal until the process is gone."""
    handle = os.pidfd_open(pid)
    try:
        spent = timed(words)
        return spent + gone(handle)
    finally:
        os.close(handle)


def gone(handle):
    """Seconds until a process is no more."""
    begun = time.perf_counter()
    if not select.select([handle], [], [], 30)[0]:
        raise Failed("a process does not end within 30 s of its signal")
    return time.perf_counter() - begun
