"""What it costs to fetch an image from a registry and to unpack it, until a container could be started of it."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile

import processes
from commands import Sampled, answers, quiet, race, timed, took, until
from contenders import Containerd, Davit

REGISTRY = "127.0.0.1:5000"
IMAGE, NEXT = f"{REGISTRY}/bench:1", f"{REGISTRY}/bench:2"
LAYERS, FILES, BYTES = 6, 20_000, 300_000_000
"""Large layers; a small one is on top of them."""


# ---- The image and its registry. -----------------------------------------------------------------------------------

def layer(number):
    """A tar of its share of the files, half of each incompressible, in folders of a hundred."""
    chance, count = random.Random(number), FILES // LAYERS + (number < FILES % LAYERS)
    each, out = BYTES // FILES, io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        def add(name, kind, data=b""):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime = kind, len(data), 1767225600
            info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            tar.addfile(info, io.BytesIO(data))
        add(f"data{number}", tarfile.DIRTYPE)
        for file in range(count):
            if file % 100 == 0:
                add(f"data{number}/{file // 100}", tarfile.DIRTYPE)
            half = chance.randbytes(each // 16 // 2 * 8)
            data = b"".join(half[at:at + 8] + b"xxxxxxxx" for at in range(0, len(half), 8))
            add(f"data{number}/{file // 100}/{file}", tarfile.REGTYPE, data.ljust(each, b"x"))
    return out.getvalue()


def small_layer(number):
    """A tar of fifty files of ten thousand bytes."""
    chance, out = random.Random(1000 + number), io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in range(50):
            info = tarfile.TarInfo(f"small-{file}")
            info.size, info.mtime, info.mode = 10_000, 1767225600, 0o644
            tar.addfile(info, io.BytesIO(chance.randbytes(info.size)))
    return out.getvalue()


class Layout:
    """An OCI layout with two images in it that have all but the uppermost layer in common."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        shared = [self.layer(layer(number)) for number in range(LAYERS)]
        entries = [self.image([*shared, self.layer(small_layer(number))], f"t{number}") for number in (1, 2)]
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def layer(self, tar):
        """Its descriptor and its diff id."""
        return self.blob("layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0)), "sha256:" + hashlib.sha256(tar).hexdigest()

    def image(self, layers, name):
        """The index' entry of an image."""
        config = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
                  "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [blob for blob, _ in layers],
                    "config": self.blob("config.v1+json", json.dumps(config).encode())}
        self.bytes = sum(blob["size"] for blob, _ in layers)
        entry = self.blob("manifest.v1+json", json.dumps(manifest).encode())
        return {**entry, "annotations": {"org.opencontainers.image.ref.name": name}}

    def blob(self, kind, data):
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


class Registry:
    """Debian's docker-registry with the images in it."""

    def __init__(self, folder):
        folder.mkdir()
        config = folder / "config.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
                          f'http: {{addr: "{REGISTRY}"}}\n')
        self.log = open(folder / "log", "w")
        self.daemon = subprocess.Popen(["docker-registry", "serve", config], stdout=self.log, stderr=self.log)
        until("the registry answers", lambda: answers(["curl", "-sf", f"http://{REGISTRY}/v2/"]))
        layout = Layout(folder / "layout")
        self.bytes = layout.bytes
        for name, image in (("t1", IMAGE), ("t2", NEXT)):
            quiet(["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false",
                   f"oci:{layout.folder}:{name}", f"docker://{image}"])
        shutil.rmtree(layout.folder)

    def stop(self):
        self.daemon.kill()
        self.daemon.wait()


# ---- Who fetches it. -----------------------------------------------------------------------------------------------

class Puller:
    """An engine of the other sections, as one that pulls."""

    def __init__(self, engine, *flags):
        self.engine, self.name, self.flags = engine, engine.name, flags

    def pull(self, image):
        if isinstance(self.engine, Containerd):
            return self.engine.words("image", "pull", "--plain-http", image)
        return self.engine.words("pull", "-q", *self.flags, image)

    def remove(self, image):
        # With --sync containerd's answers when the space is back, as the others' do.
        words = ("image", "rm", "--sync") if isinstance(self.engine, Containerd) else ("rmi",)
        return self.engine.words(*words, image)

    def clear(self):
        if isinstance(self.engine, Davit):
            quiet(self.engine.words("image", "prune", "-a", "-f"))

    def daemons(self):
        return processes.family([self.engine.daemon.pid]) if self.engine.daemon else []

    def live(self):
        """Seconds of a cold pull, of one new layer and of the removal; seconds of processors and MiB of the cold pull."""
        # What the one before left to be written is not the next one's.
        os.sync()
        daemons = self.daemons()
        processes.forget_most(daemons)
        before = processes.processor_time(daemons)
        own = []
        sampled = Sampled(lambda: processes.resident(self.daemons()) + processes.resident(processes.family(own)))
        sampled.start()
        try:
            cold = took(self.pull(IMAGE), begun=own.append)
        finally:
            most = sampled.end()
        processors = cold.processors + processes.processor_time(daemons) - before
        most = max(most, processes.most_resident(daemons))
        new = timed(self.pull(NEXT))
        quiet(self.remove(NEXT))
        removed = timed(self.remove(IMAGE))
        self.clear()
        return {"cold": cold.seconds, "processors": processors, "most": most / 1024, "new": 1e3 * new, "removed": removed}


class Tools:
    """skopeo and umoci, one after the other: no engine at all."""

    name = "skopeo + umoci"

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def live(self):
        os.sync()
        layout, bundle = self.folder / "layout", self.folder / "bundle"
        pulled = took(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{IMAGE}", f"oci:{layout}:t"])
        unpacked = took(["umoci", "--log", "error", "unpack", "--image", f"{layout}:t", str(bundle)])
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        return {"cold": pulled.seconds + unpacked.seconds, "processors": pulled.processors + unpacked.processors}

    def stop(self):
        pass


# ---- The race. -----------------------------------------------------------------------------------------------------

def pulls(contenders, rounds, section):
    taken = race("pull", {contender.name: contender.live for contender in contenders}, rounds)
    def samples(key):
        return {name: [each[key] for each in rounds if key in each] for name, rounds in taken.items()}
    section.figure("cold", "Cold: nothing of it is there", "s", samples("cold"), plot=True,
                   note="davit's layers are on the disk when it answers; the others leave that to the kernel.")
    section.figure("processors", "Seconds of processors that this took", "s", samples("processors"),
                   note="Of the command, the daemon and their children, by themselves and in the kernel.")
    section.figure("most", "Resident memory at most", "MiB", samples("most"), note="Of the command, the daemon and their children together, "
                   "asked for twenty times a second; and of the daemon, which the kernel remembers.")
    section.figure("new", "One new layer of seven: six of them are there", "ms", samples("new"))
    section.figure("removed", "Removing the image", "s", samples("removed"))
