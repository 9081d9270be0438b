"""What it costs to fetch an image from a registry and to unpack it, until a container could be started of it."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tarfile

from contenders import Davit, quiet, timed, until

REGISTRY = "127.0.0.1:5000"
IMAGE = f"{REGISTRY}/bench:1"
LAYERS, FILES, BYTES = 6, 20_000, 300_000_000


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


class Layout:
    """An OCI layout with the image in it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        layers, diff_ids = [], []
        for number in range(LAYERS):
            tar = layer(number)
            diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
            layers.append(self.blob("layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0)))
        config = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
                  "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
                    "config": self.blob("config.v1+json", json.dumps(config).encode())}
        entry = self.blob("manifest.v1+json", json.dumps(manifest).encode())
        entry["annotations"] = {"org.opencontainers.image.ref.name": "t"}
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.bytes = sum(layer["size"] for layer in layers)

    def blob(self, kind, data):
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


class Registry:
    """Debian's docker-registry with the image in it."""

    def __init__(self, folder):
        folder.mkdir()
        config = folder / "config.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
                          f'http: {{addr: "{REGISTRY}"}}\n')
        self.log = open(folder / "log", "w")
        self.daemon = subprocess.Popen(["docker-registry", "serve", config], stdout=self.log, stderr=self.log)
        until("the registry answers", lambda: subprocess.run(["curl", "-sf", f"http://{REGISTRY}/v2/"], capture_output=True).returncode == 0)
        layout = Layout(folder / "layout")
        self.bytes = layout.bytes
        quiet(["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false",
               f"oci:{layout.folder}:t", f"docker://{IMAGE}"])
        shutil.rmtree(layout.folder)

    def stop(self):
        self.daemon.kill()
        self.daemon.wait()


# ---- Who fetches it. -----------------------------------------------------------------------------------------------

class Engine:
    """An engine of the other sections, as one that pulls."""

    def __init__(self, engine, *flags):
        self.engine, self.name = engine, engine.name
        self.pulls = [engine.words("pull", "-q", *flags, IMAGE)]

    def clear(self):
        quiet(self.engine.words("rmi", IMAGE))
        if isinstance(self.engine, Davit):
            quiet(self.engine.words("image", "prune", "-a", "-f"))


class Tools:
    """skopeo and umoci, one after the other: no engine at all."""

    name = "skopeo + umoci"

    def __init__(self, folder):
        self.folder = folder
        layout, bundle = folder / "layout", folder / "bundle"
        self.pulls = [
            ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{IMAGE}", f"oci:{layout}:t"],
            ["umoci", "--log", "error", "unpack", "--image", f"{layout}:t", str(bundle)],
        ]
        folder.mkdir()

    def clear(self):
        shutil.rmtree(self.folder)
        self.folder.mkdir()


# ---- The race. -----------------------------------------------------------------------------------------------------

def peak(pid):
    """MiB that a process had at most since it was last asked."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    most = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    return most


def pulls(contenders, rounds):
    """Interleaved, and each round begins with another one."""
    took, memory = {contender.name: [] for contender in contenders}, []
    for number in range(rounds + 1):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            # What the one before left to be written is not the next one's.
            os.sync()
            daemon = getattr(getattr(contender, "engine", None), "daemon", None)
            if contender.name == "davit":
                peak(daemon.pid)
            seconds = sum(timed(words) for words in contender.pulls)
            # The first round warms the caches.
            if number:
                took[contender.name].append(seconds)
            if contender.name == "davit":
                memory.append(peak(daemon.pid))
            contender.clear()
    return took, max(memory)


def table(took, memory):
    ours = took["davit"]
    lines = ["| | median s | best–worst s | by davit, median | by davit, each round |", "|---|--:|--:|--:|--:|"]
    for name, seconds in took.items():
        ratios = sorted(theirs / own for theirs, own in zip(seconds, ours))
        shown = f"**{name}**" if name == "davit" else name
        lines.append(f"| {shown} | {statistics.median(seconds):.2f} | {min(seconds):.2f}–{max(seconds):.2f} | "
                     f"{statistics.median(seconds) / statistics.median(ours):.2f}× | {ratios[0]:.2f}–{ratios[-1]:.2f}× |")
    return [*lines, "", f"`davitd` meanwhile, at most: {memory:.1f} MiB resident. Its layers are on the disk when it answers; "
            "the others leave that to the kernel."]
