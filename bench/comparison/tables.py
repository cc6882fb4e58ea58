"""What runs said, as tables, as verdicts on what is promised, and as plots: tables.py RESULTS.jsonl [FOLDER]."""

import json
import pathlib
import statistics
import sys

import plots

TRANSPORTS = ["websocket", "sse", "chunked", "poll"]


class Results:
    """The runs, by scenario and server."""

    def __init__(self, path):
        self.runs = {}
        self.faults = []
        for line in path.read_text().splitlines():
            run = json.loads(line)
            if "fault" in run:
                self.faults.append(run)
            else:
                self.runs.setdefault(run["scenario"], {}).setdefault(run["server"], {})[run["round"]] = run

    def scenarios(self):
        return list(self.runs)

    def servers(self, scenario):
        return list(self.runs[scenario])

    def rounds(self, scenario, server):
        return self.runs.get(scenario, {}).get(server, {})

    def median(self, scenario, server, *path):
        """The median of a figure over the rounds; None if no run has it."""
        found = [figure for run in self.rounds(scenario, server).values() if (figure := at(run, path)) is not None]
        return statistics.median(found) if found else None

    def ratio(self, scenario, server, other, *path):
        """The median of the ratios of two servers within each round."""
        ours, theirs = self.rounds(scenario, server), self.rounds(scenario, other)
        pairs = [(at(ours[number], path), at(theirs[number], path)) for number in ours if number in theirs]
        ratios = [one / two for one, two in pairs if one is not None and two]
        return statistics.median(ratios) if ratios else None


def at(run, path):
    for name in path:
        run = run.get(name) if run is not None else None
    return run


COLUMNS = [
    ("CPU, µs", ["cpu_us"], "{:.2f}"), ("of it user", ["user_us"], "{:.2f}"), ("calls", ["calls"], "{:.2f}"),
    ("deliveries/s", ["deliveries_per_second"], "{:,.0f}"), ("p50, ms", ["delay_us", "p50"], "ms"), ("p99, ms", ["delay_us", "p99"], "ms"),
    ("p99.9, ms", ["delay_us", "p99.9"], "ms"), ("bytes held", ["bytes_held"], "{:,.0f}"), ("load busy", ["load_busy"], "{:.0%}"),
]


def shown(figure, form):
    if figure is None:
        return ""
    return f"{figure / 1000:.1f}" if form == "ms" else form.format(figure)


def table(results, scenario):
    """A scenario's servers, with the ratio of their processor time to the bare program's."""
    rows = [["server", "CPU to bare"] + [name for name, _, _ in COLUMNS]]
    for server in results.servers(scenario):
        ratio = shown(results.ratio(scenario, server, "bare", "cpu_us"), "{:.2f}")
        rows.append([server, ratio] + [shown(results.median(scenario, server, *path), form) for _, path, form in COLUMNS])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- |" + " --: |" * (len(rows[0]) - 1))
    return "\n".join(lines)


def promises(results):
    """What is promised: (what, figure, limit), as far as there are runs of it."""
    for transport in TRANSPORTS:
        for count, limit in [(1000, 1.05), (10000, 1.08)]:
            one = f"{transport}-{count}-one"
            limit = 1.25 if transport == "poll" else limit
            yield f"{one}: watch-mio to bare, CPU", results.ratio(one, "watch-mio", "bare", "cpu_us"), limit
            yield f"{one}: watch-smol to watch-mio, CPU", results.ratio(one, "watch-smol", "watch-mio", "cpu_us"), 1.15
            if transport != "poll":
                yield f"{one}: watch-mio, user µs", results.median(one, "watch-mio", "user_us"), 0.2
                for kind in ["burst", "writers"]:
                    burst = f"{transport}-{count}-{kind}"
                    yield f"{burst}: watch-mio, µs in all", results.median(burst, "watch-mio", "cpu_us"), 0.6
        for server, shared, distinct in [("watch-mio", 300, 420), ("watch-smol", 600, 720)]:
            for kind, limit in [("one", shared), ("distinct", distinct)]:
                held = f"{transport}-10000-{kind}"
                yield f"{held}: {server}, bytes held", results.median(held, server, "bytes_held"), limit
    for server in ["watch-mio", "watch-smol"]:
        p99 = results.median("websocket-10000-probe", server, "probe_us", "p99")
        yield f"a PUT's answer, p99 in ms, while 10,000 are pushed to: {server}", None if p99 is None else p99 / 1000, None


def verdicts(results):
    lines = ["| promise | measured | at most | |", "| --- | --: | --: | --- |"]
    missing = 0
    for what, figure, limit in promises(results):
        if figure is None:
            missing += 1
            continue
        kept = "" if limit is None else "kept" if figure <= limit else "**not kept**"
        lines.append(f"| {what} | {figure:.2f} | {'' if limit is None else limit} | {kept} |")
    if missing:
        lines += ["", f"{missing} promises were not measured in this run."]
    return "\n".join(lines)


def write(path, folder):
    """Writes tables.md and the plots into the folder, and prints the tables. Gives how many runs were faulty."""
    results = Results(path)
    text = [
        "CPU, user and calls are the server's, for each delivery. Ratios are medians of the ratios in each round.", "",
        "## What is promised", "", verdicts(results), "",
    ]
    for scenario in results.scenarios():
        text += [f"## {scenario}", "", table(results, scenario), ""]
    if results.faults:
        text += ["## Faults", "", *[f"- {run['scenario']}, {run['server']}, round {run['round']}: {run['fault']}" for run in results.faults], ""]
    (folder / "tables.md").write_text("\n".join(text))
    print("\n".join(text))
    for scenario in results.scenarios():
        bars = [(server, results.ratio(scenario, server, "bare", "cpu_us")) for server in results.servers(scenario)]
        bars = [(server, ratio) for server, ratio in bars if ratio is not None]
        if bars:
            title = f"{scenario}: processor time of a delivery, to the bare program's"
            (folder / f"{scenario}.svg").write_text(plots.bars(title, bars))
    print(f"results, tables and plots: {folder}")
    return len(results.faults)


if __name__ == "__main__":
    source = pathlib.Path(sys.argv[1])
    sys.exit(write(source, pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else source.parent) > 0)
