"""What packets cost beside other engines, and whether the two-hundredth container on a network is as quick as the first."""

import contextlib
import json
import statistics
import subprocess

from commands import Failed, answers, awake, quiet, timed, until
from contenders import Host

HOST_PROGRAMS = ["-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro"]
STREAM, QUESTION = 5201, 7000


# ---- Throughput. ----------------------------------------------------------------------------------------------------

class Pair:
    """Two containers of one engine on its default network: one serves and is published, one asks."""

    def __init__(self, engine, host, traffic):
        self.engine, self.host, self.traffic = engine, host, traffic
        ports = ["-p", f"{STREAM}:{STREAM}", "-p", f"{QUESTION}:{QUESTION}", "-p", f"{QUESTION}:{QUESTION}/udp"]
        both = f"/traffic serve {QUESTION} & exec /usr/bin/iperf3 -s"
        mounts = [*HOST_PROGRAMS, "-v", f"{traffic}:/traffic:ro"]
        quiet(engine.words("run", "-d", "--name", "server", *ports, *mounts, "busybox", "sh", "-c", both))
        quiet(engine.words("run", "-d", "--name", "client", *mounts, "busybox", "sleep", "100000"))
        self.listener = subprocess.Popen([*host.on(), "iperf3", "-s", "-p", "5202"], stdout=subprocess.DEVNULL)
        address = quiet(engine.words("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "server")).strip()
        inside, stream = engine.words("exec", "client", "/usr/bin/iperf3"), ["-p", str(STREAM)]
        self.cases = {
            "container → host": [*inside, "-c", Host.OWN, "-p", "5202"],
            "container → container": [*inside, "-c", address, *stream],
            "host → published port, 127.0.0.1": [*host.on(), "iperf3", "-c", "127.0.0.1", *stream],
            "host → published port, own address": [*host.on(), "iperf3", "-c", Host.OWN, *stream],
            "neighbour → published port": [*host.beside(), "iperf3", "-c", Host.OWN, *stream],
        }
        for words in self.cases.values():
            until(" ".join(words), lambda: answers([*words, "-n", "1M"]))

    def throughput(self, case, seconds):
        """Gbit/s as the receiver saw them."""
        told = json.loads(quiet([*self.cases[case], "-J", "-t", str(seconds)]))
        return told["end"]["sum_received"]["bits_per_second"] / 1e9

    def question(self, way, address, count=3000):
        """Microseconds of the median question."""
        words = [*self.host.on(), self.traffic, way, f"{address}:{QUESTION}", str(count)]
        return float(quiet(words).split()[0])

    def stop(self):
        self.listener.kill()
        self.listener.wait()
        self.engine.clear()


def throughput(pairs, rounds, seconds):
    """Interleaved, so that a busy moment of the machine hits all of them. Answers with lines and the samples of each case."""
    names = [pair.engine.name for pair in pairs]
    seen = {}
    head = " | ".join(f"{name} best | median" for name in names)
    lines = ["### Throughput, Gbit/s, one TCP stream", "", f"| | {head} | davit / best other, best | median |",
             "|---|" + "--:|" * (2 * len(names) + 2)]
    for case in pairs[0].cases:
        samples = {name: [] for name in names}
        for round in range(rounds):
            # Whoever comes first finds the machine differently: take turns.
            for pair in pairs[round % len(pairs):] + pairs[:round % len(pairs)]:
                samples[pair.engine.name].append(pair.throughput(case, seconds))
        seen[case] = samples
        cells = [f"{max(taken):.2f} | {statistics.median(taken):.2f}" for taken in samples.values()]
        others = [taken for name, taken in samples.items() if name != "davit"]
        ratios = [measure(samples["davit"]) / max(map(measure, others)) for measure in (max, statistics.median)]
        lines.append(f"| {case} | {' | '.join(cells)} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    return [*lines, ""], seen


def questions(pairs, rounds):
    """Small questions to a published port, from the host. Answers with lines and the samples of each way."""
    names = [pair.engine.name for pair in pairs]
    seen = {}
    lines = ["### A question to a published port and its answer, microseconds, median", "",
             "These questions, and lookups below, are asked while the processors are kept from sleeping.", "",
             f"| | {' | '.join(names)} | best other / davit |", "|---|" + "--:|" * (len(names) + 1)]
    for title, way, address in (("127.0.0.1, a connection each", "once", "127.0.0.1"),
                                ("own address, a connection each", "once", Host.OWN),
                                ("127.0.0.1, one connection", "again", "127.0.0.1"),
                                ("own address, one connection", "again", Host.OWN),
                                ("127.0.0.1, UDP", "udp", "127.0.0.1")):
        samples = {name: [] for name in names}
        for round in range(rounds):
            with awake():
                for pair in pairs[round % len(pairs):] + pairs[:round % len(pairs)]:
                    samples[pair.engine.name].append(pair.question(way, address))
        seen[title] = samples
        medians = {name: statistics.median(taken) for name, taken in samples.items()}
        best = min(value for name, value in medians.items() if name != "davit")
        cells = " | ".join(f"{value:.1f}" for value in medians.values())
        lines.append(f"| {title} | {cells} | {best / medians['davit']:.2f} |")
    return [*lines, ""], seen


def answered(question):
    """Asks until somebody answers: a program listens a moment after its container began."""
    until(" ".join(question), lambda: answers(question))


# ---- Many containers on one network. --------------------------------------------------------------------------------

class Crowd:
    """Containers of davit on one network, each with a published port."""

    NETWORK, FIRST = "crowd", 20_001

    def __init__(self, davit, host, traffic):
        self.davit, self.host, self.traffic = davit, host, traffic
        quiet(davit.words("network", "create", self.NETWORK))
        self.starts = []

    def grow(self, count):
        while len(self.starts) < count:
            n = len(self.starts)
            ports = ["-p", f"{self.FIRST + n}:{QUESTION}"]
            self.starts.append(timed(self.davit.words(
                "run", "-d", "--name", f"c{n + 1}", "--network", self.NETWORK, *ports, "-v",
                f"{self.traffic}:/traffic:ro", "busybox", "/traffic", "serve", str(QUESTION))))

    def address(self, number):
        field = f"{{{{.NetworkSettings.Networks.{self.NETWORK}.IPAddress}}}}"
        return quiet(self.davit.words("inspect", "--format", field, f"c{number}")).strip()

    def all_answer(self):
        """Each by its published port, and by its name from the first one."""
        for n in range(len(self.starts)):
            answered([*self.host.on(), self.traffic, "once", f"127.0.0.1:{self.FIRST + n}", "1"])
        names = [f"c{n + 1}" for n in range(len(self.starts))]
        quiet(self.davit.words("exec", "c1", "/traffic", "lookup", "127.0.0.11:53", str(len(names)), *names))
        seen = quiet(self.davit.words("exec", "c1", "nslookup", names[-1]))
        address = self.address(len(names))
        if address not in seen:
            raise Failed(f"{names[-1]} has {address}, and is told to be at: {seen}")

    def costs(self, rounds):
        """What one more of each costs, in microseconds."""
        last = len(self.starts)
        inside = self.davit.words("exec", "c1", "/traffic")
        ways = {
            "request to the newest one's port, 127.0.0.1": ([*self.host.on(), self.traffic], ["once", f"127.0.0.1:{self.FIRST + last - 1}", "2000"]),
            "request to the newest one's port, from a neighbour": ([*self.host.beside(), self.traffic], ["once", f"{Host.OWN}:{self.FIRST + last - 1}", "2000"]),
            "request to the newest one, from the first": (inside, ["once", f"{self.address(last)}:{QUESTION}", "2000"]),
            "lookup of the newest one's name": (inside, ["lookup", "127.0.0.11:53", "2000", f"c{last}"]),
            "lookup of any name": (inside, ["lookup", "127.0.0.11:53", "2000", *[f"c{n + 1}" for n in range(last)]]),
        }
        ask = lambda words, rest: float(quiet([*words, *rest]).split()[0])
        taken = {}
        for title, way in ways.items():
            # A question from one processor to the other is steadier among sleepers than beside somebody who gives way.
            with awake() if "lookup" in title else contextlib.nullcontext():
                taken[title] = min(ask(*way) for _ in range(rounds))
        return taken


def crowd(davit, host, traffic, size, rounds):
    """Start costs as the network fills, and what a packet and a lookup cost in the beginning and in the end."""
    groups = ((1, 10), (size // 2 - 9, size // 2), (size - 9, size))
    starts = {group: [] for group in groups}
    few, many = [], []
    for _ in range(rounds):
        one = Crowd(davit, host, traffic)
        one.grow(2)
        one.all_answer()
        few.append(one.costs(3))
        one.grow(size)
        one.all_answer()
        many.append(one.costs(3))
        for first, last in groups:
            starts[first, last] += one.starts[first - 1:last]
        davit.clear()
        quiet(davit.words("network", "rm", Crowd.NETWORK))
    base = statistics.median(starts[groups[0]])
    lines = [f"### {size} containers on one network, each with a published port", "",
             "| `run -d` of | median ms | p10–p90 ms | by the first ten |", "|---|--:|--:|--:|"]
    for (first, last), taken in starts.items():
        taken.sort()
        median = statistics.median(taken)
        spread = f"{taken[len(taken) // 10] * 1e3:.2f}–{taken[len(taken) * 9 // 10] * 1e3:.2f}"
        lines.append(f"| number {first} to {last} | {median * 1e3:.2f} | {spread} | {median / base:.2f} |")
    lines += ["", f"| best median of {3 * rounds}, microseconds | with 2 | with {size} | ratio |", "|---|--:|--:|--:|"]
    for title in few[0]:
        a, b = min(costs[title] for costs in few), min(costs[title] for costs in many)
        lines.append(f"| {title} | {a:.1f} | {b:.1f} | {b / a:.2f} |")
    return [*lines, "", f"All {size} answer by their port and by their name.", ""]


# ---- Many ports. ----------------------------------------------------------------------------------------------------

def ports(davit, host, traffic, rounds):
    """What it costs to publish many, and to reach the last of them."""
    serve = ["-v", f"{traffic}:/traffic:ro", "busybox", "/traffic", "serve"]
    singles = [word for n in range(1000) for word in ("-p", f"{10000 + n}:{20000 + n}")]
    contenders = {
        "none": ([], None),
        "1": (["-p", "10999:7000"], 10_999),
        "1,000 one by one": (singles, 10_999),
        "1,000 as a range": (["-p", "10000-10999:20000-20999"], 10_999),
        "10,000 as a range": (["-p", "10000-19999:20000-29999"], 19_999),
    }
    lines = ["### Publishing many ports of one container", "",
             "| ports | `run -d` ms | `rm -f` ms | question to the last one, 127.0.0.1, µs |", "|---|--:|--:|--:|"]
    samples = {name: ([], [], []) for name in contenders}
    for _ in range(rounds):
        for name, (words, last) in contenders.items():
            start, end, question = samples[name]
            inside = 7000 if last in (None, 10_999) and name == "1" else (last or 10_000) + 10_000
            start.append(timed(davit.words("run", "-d", "--name", "many", *words, *serve, str(inside))))
            if last:
                answered([*host.on(), str(traffic), "once", f"127.0.0.1:{last}", "1"])
                with awake():
                    asked = quiet([*host.on(), str(traffic), "once", f"127.0.0.1:{last}", "1000"])
                question.append(float(asked.split()[0]))
            end.append(timed(davit.words("rm", "-f", "many")))
    for name, (start, end, question) in samples.items():
        asked = f"{min(question):.1f}" if question else "–"
        lines.append(f"| {name} | {statistics.median(start) * 1e3:.1f} | {statistics.median(end) * 1e3:.1f} | {asked} |")
    return [*lines, ""]
