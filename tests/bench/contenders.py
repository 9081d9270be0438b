"""The engines that are measured, each with storage of its own and, where it has links, on a host of its own."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

CRUN_CAPS = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"


def quiet(words, **options):
    """Runs a command to its end, fails loudly, and answers with what it printed."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, words))}: exit {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


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


def until(what, ask, seconds=30):
    """Asks until the answer is true, and answers with it."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            sys.exit(f"bench: not within {seconds} s: {what}")
        time.sleep(0.02)
    return answer


def hide_unified():
    """crun 1.8 refuses a hybrid host whose unified hierarchy carries a controller; from here on this process and its
    children see none. davitd, already started, keeps its own view of mounts."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000) != 0:
        sys.exit(f"bench: unshare: {os.strerror(ctypes.get_errno())}")
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)


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
            sys.exit("bench: cannot make a network namespace")
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


class Davit:
    """An engine of our own in a folder of the bench."""

    name = "davit"

    def __init__(self, folder, binaries, cgroup, on=()):
        self.folder, self.binaries, self.on = folder, binaries, list(on)
        folder.mkdir(exist_ok=True)
        self.socket = folder / "run" / "davitd.sock"
        self.log = open(folder / "davitd.log", "w")
        self.daemon = subprocess.Popen(
            [*self.on, binaries / "davitd", "--root", folder / "root", "--run", folder / "run", "--listen",
             f"unix://{self.socket}", "--cgroup-parent", f"/{cgroup}/davit", "--bridge", "davit0", "--log-level", "warn"],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        until(f"davitd answers; see {folder}/davitd.log",
              lambda: subprocess.run(self.words("version"), capture_output=True).returncode == 0)

    def words(self, *rest):
        return [str(self.binaries / "davit"), "--host", f"unix://{self.socket}", *rest]

    def load(self, archive):
        quiet(self.words("load", "-q", "-i", str(archive)))

    def clear(self):
        """Removes all containers."""
        ids = quiet(self.words("ps", "-a", "-q")).split()
        for at in range(0, len(ids), 50):
            quiet(self.words("rm", "-f", *ids[at:at + 50]))

    def stop(self):
        if self.daemon.poll() is None:
            self.clear()
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(20)


class Crun:
    """A bundle made of the same files, run by bare crun without a network."""

    def __init__(self, folder, rootfs, cgroup):
        self.folder, self.cgroup = folder, cgroup
        self.state = folder / "state"
        self.specs, self.count = {}, 0
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
            self.specs[name] = spec

    def words(self, bundle, *flags):
        """The command, and its bundle made ready: each container has a cgroup of its own."""
        self.count += 1
        spec = self.specs[bundle]
        spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/crun{self.count}"
        (self.folder / bundle / "config.json").write_text(json.dumps(spec))
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

    name = program = "podman"

    def __init__(self, folder, cgroup, on=()):
        self.cgroup = cgroup
        self.base = [*on, "podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"),
                     "--tmpdir", str(folder / "tmp"), "--cgroup-manager", "cgroupfs", "--runtime", "crun",
                     "--network-config-dir", str(folder / "networks"), "--events-backend", "none"]

    def words(self, verb, *rest):
        parent = ["--cgroup-parent", f"/{self.cgroup}/podman"] if verb == "run" else []
        return [*self.base, verb, *parent, *rest]

    def load(self, archive):
        quiet(self.words("load", "-q", "-i", str(archive)))

    def stop(self):
        quiet(self.words("rm", "-f", "-t", "0", "-a"))

    clear = stop


class Docker:
    """Debian's dockerd with a storage of its own. What it wants below /run and /etc is its alone."""

    name, program = "docker", "dockerd"

    def __init__(self, folder, cgroup, on=()):
        for part in ("etc", "work"):
            (folder / part).mkdir(parents=True)
        self.socket, self.pid = folder / "docker.sock", folder / "dockerd.pid"
        self.log = open(folder / "dockerd.log", "w")
        etc = f"lowerdir=/etc,upperdir={folder}/etc,workdir={folder}/work"
        alone = f'mount -t overlay -o {etc} etc /etc && mount -t tmpfs run /run && mount -t tmpfs opt /opt && exec "$@"'
        self.daemon = subprocess.Popen(
            [*on, "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", alone, "sh",
             "dockerd", "--host", f"unix://{self.socket}", "--data-root", folder / "root", "--exec-root", folder / "run",
             "--pidfile", self.pid, "--cgroup-parent", f"/{cgroup}/docker", "--exec-opt", "native.cgroupdriver=cgroupfs",
             "--storage-driver", "overlay2"],
            stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        until(f"dockerd answers; see {folder}/dockerd.log",
              lambda: subprocess.run(self.words("version"), capture_output=True).returncode == 0)

    def words(self, *rest):
        return ["docker", "--host", f"unix://{self.socket}", *rest]

    def load(self, archive):
        quiet(self.words("load", "-q", "-i", str(archive)))

    def clear(self):
        ids = quiet(self.words("ps", "-a", "-q")).split()
        if ids:
            quiet(self.words("rm", "-f", *ids))

    def stop(self):
        if self.daemon.poll() is None:
            self.clear()
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(30)


@contextlib.contextmanager
def awake():
    """Keeps the processors from sleeping: to wake one costs more than the question that is measured, and whether it
    sleeps is chance. What keeps them busy is of the idle class, so it gives way to everybody at once."""
    spinners = []
    try:
        for _ in range(os.cpu_count()):
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
                while True:
                    pass
            spinners.append(pid)
        yield
    finally:
        for pid in spinners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
