"""What it costs to build an image of a file with ten steps: all of them, and none of them because nothing changed."""

import os
import random

from commands import quiet, race, timed

IMAGE = "bench/built:1"
FILES, BYTES = 1000, 4000
DOCKERFILE = """FROM busybox AS build
WORKDIR /src
COPY lib lib
RUN cat lib/*/* > /lib.a
COPY app app
RUN cat app/*/* /lib.a > /program && cd / && sha256sum program > program.sum
FROM busybox
COPY --from=build /program /program.sum /srv/
RUN cd /srv && sha256sum -c program.sum && mkdir data
CMD ["cat", "/srv/program.sum"]
"""
STEPS = len(DOCKERFILE.splitlines())


def context(folder):
    """A folder with the file and a thousand others in two folders, which it copies one after the other."""
    chance = random.Random(1)
    for number in range(FILES):
        inner = folder / ("lib", "app")[number % 2] / str(number // 100)
        inner.mkdir(parents=True, exist_ok=True)
        (inner / str(number)).write_bytes(chance.randbytes(BYTES))
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return str(folder)


# ---- Who builds it. ------------------------------------------------------------------------------------------------
# No step has a network: what that costs is measured elsewhere.

class OfDavit:
    """Our own."""

    name = "davit"

    def __init__(self, engine, folder):
        self.engine = engine
        self.build = engine.words("build", "-q", "--network", "none", "-t", IMAGE, folder)

    def clear(self):
        quiet(self.engine.words("rmi", IMAGE))
        quiet(self.engine.words("builder", "prune", "-f"))
        quiet(self.engine.words("image", "prune", "-f"))


class OfDocker:
    """docker's own builder, or BuildKit within its daemon."""

    def __init__(self, engine, folder, buildkit):
        self.engine = engine
        self.name = "docker, BuildKit" if buildkit else "docker"
        words = engine.words("build", "-q", "--network", "none", "-t", IMAGE, folder)
        self.build = ["env", f"DOCKER_BUILDKIT={int(buildkit)}", *words]

    def clear(self):
        quiet(self.engine.words("rmi", "-f", IMAGE))
        quiet(self.engine.words("builder", "prune", "-a", "-f"))
        quiet(self.engine.words("image", "prune", "-f"))


class Buildah:
    """Debian's buildah with a storage of its own."""

    name = program = "buildah"

    def __init__(self, folder, cgroup, archive):
        self.base = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "overlay"]
        self.cgroup = cgroup
        quiet([*self.base, "pull", "-q", f"docker-archive:{archive}"])

    def of(self, folder):
        """As docker's: every step is kept for the next time."""
        self.build = [*self.base, "bud", "-q", "--layers", "--runtime", "crun", "--network", "none", "--cgroup-parent",
                      f"/{self.cgroup}/buildah", "--pull-never", "-t", IMAGE, folder]
        return self

    def clear(self):
        quiet([*self.base, "rmi", "-f", IMAGE])
        quiet([*self.base, "rmi", "--prune", "-f"])

    def stop(self):
        pass


def contenders(davit, docker, buildah, folder):
    """All who are there."""
    docker = [OfDocker(docker, folder, buildkit) for buildkit in (False, True)] if docker else []
    return [OfDavit(davit, folder), buildah.of(folder), *docker]


# ---- The race. -----------------------------------------------------------------------------------------------------

def one(contender, again):
    """Once with nothing kept, then some times with all of it."""
    def live():
        # What the one before left to be written is not the next one's.
        os.sync()
        first = timed(contender.build)
        more = [timed(contender.build) for _ in range(again)]
        contender.clear()
        return first, more
    return live


def builds(contenders, rounds, again):
    """Seconds of builds with nothing kept, and of those where nothing changed."""
    taken = race("builds", {contender.name: one(contender, again) for contender in contenders}, rounds)
    cold = {name: [first for first, _ in lives] for name, lives in taken.items()}
    return cold, {name: [each for _, more in lives for each in more] for name, lives in taken.items()}
