"""Bundles made of the same files, run by a bare OCI runtime: no daemon, no network, nothing that watches."""

import json
import os
import pathlib

from commands import Failed, quiet, until
from contenders import SLEEP, Engine, signalled

CAPS = ["CAP_" + cap for cap in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT "
        "KILL AUDIT_WRITE".split()]


class Bare(Engine):
    """crun or runc. A container's bundle is made before its time is taken."""

    def __init__(self, program, folder, bench, rootfs):
        self.name, self.folder, self.cgroup, self.count = program, folder, bench.cgroup, 0
        self.base = [program, "--root", str(bench.run / folder.name)]
        folder.mkdir()
        quiet([program, "spec"], cwd=folder)
        self.spec = json.loads((folder / "config.json").read_text())
        self.spec["root"] = {"path": str(rootfs), "readonly": False}
        self.spec["process"]["terminal"] = False
        self.spec["process"]["capabilities"] = {kind: CAPS for kind in ("bounding", "effective", "permitted")}
        self.spec["linux"]["seccomp"] = seccomp_profile()

    def words(self, *rest):
        return [*self.base, *rest]

    def bundle(self, name, command):
        """Its folder. Each container has a cgroup of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.spec["process"]["args"] = list(command)
        self.spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/{self.name}/{name}"
        (folder / "config.json").write_text(json.dumps(self.spec))
        return str(folder)

    def once(self, network=False, command=("true",)):
        self.count += 1
        name = f"once{self.count}"
        return self.words("run", "--bundle", self.bundle(name, command), name)

    def begin(self, name, command=SLEEP, network=False, flags=()):
        return self.words("run", "--detach", "--bundle", self.bundle(name, command), name)

    def inside(self, name, *command):
        return self.words("exec", name, *command)

    def state(self, name):
        return json.loads(quiet(self.words("state", name)))

    def end(self, name):
        spent = signalled(self.words("kill", name, "TERM"), self.state(name)["pid"])
        until(f"{name} has ended", lambda: self.state(name)["status"] == "stopped")
        return spent

    def remove(self, name):
        return self.words("delete", name)

    def ps(self):
        return self.words("list")

    def running(self):
        return len(quiet(self.words("list", "-q")).split())

    def clear(self):
        for name in quiet(self.words("list", "-q")).split():
            quiet(self.words("delete", "-f", name))

    stop = clear


def seccomp_profile():
    """An allow list of the size of the usual default profile."""
    for path in ("/usr/share/containers/seccomp.json", "/etc/containers/seccomp.json"):
        if os.path.exists(path):
            wide = json.loads(pathlib.Path(path).read_text())
            names = sorted({n for rule in wide["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
                            and not rule.get("includes", {}).get("caps") for n in rule["names"]})
            return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                    "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}
    raise Failed("no seccomp profile of podman's is here to take the usual calls from")
