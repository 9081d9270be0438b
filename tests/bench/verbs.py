"""What is done to one running container: exec, stop, rm."""

from commands import race, timed
from contenders import OBEYS


def one(engine, count):
    """A life with each of them, in milliseconds."""
    def live():
        count[0] += 1
        name = f"v{count[0]}"
        timed(engine.begin(name, OBEYS))
        timed(engine.inside(name, "true"))
        inside = [timed(engine.inside(name, "true")) for _ in range(3)]
        stopped = engine.end(name)
        removed = timed(engine.remove(name))
        return [1e3 * min(inside), 1e3 * stopped, 1e3 * removed]
    return live


def verbs(engines, rounds, section):
    taken = race("exec, stop, rm", {engine.name: one(engine, [0]) for engine in engines}, rounds)
    notes = ("The best of three in each container.",
             "Its first process ends as soon as it is asked to. crun, runc and containerd only send the signal: to their command's time "
             "the wait for that process' end is added.",
             "Of a stopped container. containerd's is two commands, for the task and for the container.")
    for at, (key, title) in enumerate((("exec", "`exec` of `true`, to the exit code"), ("stop", "`stop`, until it has ended"),
                                       ("rm", "`rm`"))):
        section.figure(key, title, "ms", {name: [each[at] for each in lives] for name, lives in taken.items()}, plot=at == 0, note=notes[at])
