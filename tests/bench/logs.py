"""How fast a container may write to its log, and how fast that is read back."""

import os
import random

from commands import Failed, race, quiet, timed


def lines_file(path, size):
    """Lines of about a hundred bytes, each with its number."""
    chance = random.Random(2)
    words = [chance.randbytes(43).hex() for _ in range(97)]
    with open(path, "w") as file:
        number = written = 0
        while written < size:
            written += file.write(f"{number:012} {words[number % 97]}\n")
            number += 1
    return os.path.getsize(path)


class Engines:
    """docker's verbs."""

    def __init__(self, engine, lines, flags=()):
        self.engine, self.lines, self.name = engine, lines, engine.name
        self.flags = ["--network", "none", "-v", f"{lines}:/lines:ro", *flags]

    def write(self):
        return timed(self.engine.words("run", "-d", "--name", "log", *self.flags, "busybox", "cat", "/lines")) \
            + timed(self.engine.words("wait", "log"))

    def read(self):
        return timed(self.engine.words("logs", "log"))

    def whole(self):
        """Whether all of it is there and nothing else."""
        quiet(["sh", "-c", 'lines=$1; shift; "$@" | cmp - "$lines"', "sh", str(self.lines), *self.engine.words("logs", "log")])

    def clear(self):
        quiet(self.engine.words("rm", "-f", "log"))


class Files:
    """Those who leave a log to a file: containerd's raw log, or whatever a bare runtime's output is redirected to."""

    def __init__(self, engine, lines, log):
        self.engine, self.lines, self.log, self.name = engine, lines, log, engine.name

    def write(self):
        if hasattr(self.engine, "bundle"):
            words = self.engine.once(command=["cat", "/lines"])
            return timed(["sh", "-c", 'log=$1; shift; exec "$@" > "$log"', "sh", str(self.log), *words])
        mount = f"type=bind,src={self.lines},dst=/lines,options=rbind:ro"
        self.engine.count += 1
        words = self.engine._run(f"log{self.engine.count}", "--rm", "--log-uri", f"file://{self.log}", "--mount", mount, network=False)
        return timed([*words, "cat", "/lines"])

    def read(self):
        return timed(["cat", str(self.log)])

    def whole(self):
        quiet(["cmp", str(self.log), str(self.lines)])

    def clear(self):
        self.log.unlink()


def logs(contenders, size, rounds, section):
    """Megabytes a second of each."""
    torn, seen = [], set()

    def live(contender):
        def both():
            os.sync()
            written = contender.write()
            read = contender.read()
            # Reading it all takes some of them half a minute: they are believed after the first time.
            if contender.name == "davit" or contender.name not in seen:
                seen.add(contender.name)
                try:
                    contender.whole()
                except Failed as failure:
                    if contender.name == "davit":
                        raise
                    torn.append(contender.name)
            contender.clear()
            return [size / 1e6 / written, size / 1e6 / read]
        return both

    taken = race("logs", {each.name: live(each) for each in contenders}, rounds)
    lost = f" Lines were missing or torn when read back: {', '.join(torn)}." if torn else ""
    kept = "davit frames each line with its time and stream, as docker and podman do; containerd's `--log-uri file:` and the bare " \
           f"runtimes keep raw bytes. What davit wrote was compared byte for byte with what it was given in every round.{lost}"
    section.figure("write", f"A container writes {size / 1e6:.0f} MB of lines to its log, from `run -d` to its end", "MB/s",
                   {name: [each[0] for each in pairs] for name, pairs in taken.items()}, less=False, plot=True, note=kept)
    section.figure("read", "Reading it back: `logs`, or `cat` of the raw file", "MB/s",
                   {name: [each[1] for each in pairs] for name, pairs in taken.items()}, less=False, plot=True)
