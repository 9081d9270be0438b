"""What it costs to keep what a container wrote as an image, and to carry many files in and out of it."""

import os
import random
import shutil

from commands import quiet, race, timed

FILES = 10_000
WRITE = "dd if=/dev/urandom of=/written bs=1M count=100 2>/dev/null && exec sleep 100000"


def folder_of(path):
    """A hundred folders of a hundred files of a thousand bytes."""
    chance = random.Random(3)
    for number in range(FILES):
        inner = path / str(number // 100)
        inner.mkdir(parents=True, exist_ok=True)
        (inner / str(number)).write_bytes(chance.randbytes(1000))


def one(engine, source, out):
    """A container of its own each time, in seconds."""
    def live():
        words = engine.words
        quiet(engine.begin("files", ["sh", "-c", WRITE], network=False))
        quiet(engine.inside("files", "sh", "-c", 'until [ "$(stat -c %s /written)" = 104857600 ]; do sleep 0.05; done; sync'))
        os.sync()
        committed = timed(words("commit", "files", "bench/written:1"))
        os.sync()
        into = timed(words("cp", str(source), "files:/in"))
        os.sync()
        out_of = timed(words("cp", "files:/in", str(out)))
        here = sum(len(names) for _, _, names in os.walk(out))
        assert here == FILES, f"{engine.name}: {here} files came out of the container"
        shutil.rmtree(out)
        quiet(words("rm", "-f", "files"))
        quiet(words("rmi", "-f", "bench/written:1"))
        return [committed, into, out_of]
    return live


def files(engines, source, out, rounds, section):
    taken = race("commit and cp", {engine.name: one(engine, source, out) for engine in engines}, rounds)
    for at, (key, title) in enumerate((("commit", "`commit` of a container that wrote 100 MB"), ("in", f"`cp` of {FILES:,} files into it"),
                                       ("out", f"`cp` of {FILES:,} files out of it"))):
        section.figure(key, title, "s", {name: [each[at] for each in lives] for name, lives in taken.items()}, plot=True)
