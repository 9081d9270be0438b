"""What a start costs, alone and many in a row."""

import functools

from commands import race, timed, together
from contenders import SLEEP


def once(engines, bare, rounds, section):
    """`run --rm` with a network and without."""
    def ask(engine, network):
        return lambda: 1e3 * timed(engine.once(network))
    with_network = {engine.name: ask(engine, True) for engine in engines}
    without = {f"{engine.name}, no network": ask(engine, False) for engine in engines}
    taken = race("run --rm", {**{each.name: ask(each, False) for each in bare}, **with_network, **without}, rounds)
    alone = {each.name: taken[each.name] for each in bare if each.name in taken}
    plain = {name.removesuffix(", no network"): samples for name, samples in taken.items() if name.endswith(", no network")}
    bridged = {name: samples for name, samples in taken.items() if name in with_network}
    section.figure("run", "`run --rm` of `true` on a bridge network, to the exit code", "ms", {**bridged, **alone}, plot=True,
                   note="crun and runc have no network here, as below: they make none.")
    section.figure("run-none", "`run --rm` of `true` without a network, to the exit code", "ms", {**plain, **alone}, plot=True)


def detached(engines, bare, rounds, section):
    """`run -d`, with a network where there is one."""
    def ask(engine, count):
        def begin():
            count[0] += 1
            return 1e3 * timed(engine.begin(f"d{count[0]}"))
        return begin
    taken = race("run -d", {engine.name: ask(engine, [0]) for engine in [*engines, *bare]}, rounds)
    section.figure("detached", "`run -d`, until it returns", "ms", taken, plot=True,
                   note="On a bridge network; crun and runc (`run --detach`) without one.")
    for engine in [*engines, *bare]:
        engine.clear()


def _crowd(engine, count, at_once):
    """Starts a second of one engine."""
    if hasattr(engine, "bundle"):
        for number in range(1, count + 1):
            engine.bundle(f"m{number}", SLEEP)
        words = engine.words("run", "--detach", "--bundle", str(engine.folder / "m{}"), "m{}")
    else:
        words = engine.begin("m{}")
    seconds = together(count, at_once, words)
    engine.clear()
    return count / seconds


def rates(engines, bare, count, rounds, section):
    """Containers a second."""
    for key, title, at_once in (("sequence", "one after the other", 1), ("at-once", "8 at a time", 8)):
        ways = {engine.name: functools.partial(_crowd, engine, count, at_once) for engine in [*engines, *bare]}
        # Who takes seconds for each round has fewer.
        fast = {"davit", *(each.name for each in bare)}
        taken = race(title, {name: way for name, way in ways.items() if name in fast}, max(1, rounds // 3))
        taken |= race(title, {name: way for name, way in ways.items() if name not in fast}, min(2, rounds), warm=0)
        section.figure(key, f"{count} starts of `run -d`, {title}", "a second", taken, less=False,
                       note="Each with a network; crun and runc without one.")
