"""Commands: run to their end, timed from outside, asked again until they answer. None of them is waited for without end."""

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 180
"""Seconds that a command may take."""
WARM = 1
"""Rounds of a race before those that count."""


class Failed(Exception):
    """Something that was measured did not do what it was told."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def quiet(words, seconds=PATIENCE, **options):
    """Runs a command to its end, fails loudly, and answers with what it printed."""
    words = [str(word) for word in words]
    # Files, not pipes: what runs on detached would hold a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        try:
            done = subprocess.run(words, stdout=out, stderr=complaints, stdin=subprocess.DEVNULL, timeout=seconds, **options)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(words)}: not within {seconds} s") from None
        if done.returncode != 0:
            raise Failed(f"{' '.join(words)}: exit {done.returncode}: {_text(complaints)}")
        return _text(out)


def _text(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def answers(words, seconds=30):
    """Whether a command ends well, and in time."""
    try:
        return subprocess.run([str(word) for word in words], capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def until(what, ask, seconds=60, every=0.02):
    """Asks until the answer is true, and answers with it."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(every)
    return answer


# ---- Timed. --------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Took:
    """Seconds by the clock, and seconds of processors that the command and its children used."""

    seconds: float
    processors: float


where = functools.cache(shutil.which)


def _late(*_):
    raise TimeoutError


def took(words, seconds=PATIENCE, begun=lambda pid: None):
    """Times a command from outside. Spawned without a fork of this process, which would cost more than some of them."""
    words = [str(word) for word in words]
    with tempfile.TemporaryFile() as complaints:
        streams = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                   (os.POSIX_SPAWN_DUP2, complaints.fileno(), 2)]
        defaults = [signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM]
        program = where(words[0]) or words[0]
        signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        pid = None
        try:
            start = time.perf_counter()
            pid = os.posix_spawn(program, words, os.environ, file_actions=streams, setsigdef=defaults)
            begun(pid)
            _, status, usage = os.wait4(pid, 0)
            end = time.perf_counter()
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Failed(f"{' '.join(words)}: not within {seconds} s") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            raise Failed(f"{' '.join(words)}: exit {code}: {_text(complaints)}")
    return Took(end - start, usage.ru_utime + usage.ru_stime)


def timed(words, seconds=PATIENCE):
    """Seconds that a command takes."""
    return took(words, seconds).seconds


def together(count, at_once, words, seconds=PATIENCE):
    """Seconds that it takes to run a command so many times, so many at once; `{}` in its words is the number."""
    # xargs costs less between two of them than Python does.
    script = 'seq "$1" | { n=$2; shift 2; xargs -P "$n" -I{} "$@"; }'
    return timed(["sh", "-c", script, "sh", count, at_once, *words], seconds)


# ---- Races. --------------------------------------------------------------------------------------------------------

def race(what, contenders, rounds, warm=None):
    """Calls each of the named functions in every round, each round beginning with another one, so that a busy moment of the
    machine hits all of them. Answers with what each one answered, without the first rounds, which warm the caches. Who
    fails is out of the race; davit may not."""
    warm = WARM if warm is None else warm
    samples = {name: [] for name in contenders}
    for number in range(rounds + warm):
        names = list(samples)
        turn, spent = number % len(names), []
        for name in names[turn:] + names[:turn]:
            begun = time.monotonic()
            try:
                answer = contenders[name]()
            except Failed as failure:
                if name.startswith("davit"):
                    raise
                say(f"{name} is out of the race: {failure}")
                del samples[name]
                continue
            spent.append(f"{name} {time.monotonic() - begun:.1f}")
            if number >= warm:
                samples[name].append(answer)
        say(f"  {what}, round {number - warm + 1} of {rounds}, seconds: {', '.join(spent)}")
    return samples


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


class Sampled(threading.Thread):
    """Asks for a number twenty times a second while a command runs, and keeps the largest."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.most, self.over = ask, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            self.most = max(self.most, self.ask())

    def end(self):
        self.over.set()
        self.join()
        return self.most
