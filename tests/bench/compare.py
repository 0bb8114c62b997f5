#!/usr/bin/env python3
"""phid beside llama.cpp and ik_llama.cpp on this machine and one model: prefill, decode, decode in a long context, many sequences.

    tests/bench/compare.py -m MODEL.gguf --llama FOLDER [--ik FOLDER] [--into FILE.json] [--pairs 5] [--rows prefill,decode,depth,batch]
    tests/bench/compare.py --table FILE.json...

Folders are where llama-bench and llama-batched-bench lie; llama.cpp is also found in PATH. A round runs each program once, A B C and
then C B A; the table has medians over the rounds and the median of the ratios within a round, with its 95 % bootstrap interval. A
run during which the host took more than 1 % of the processor away (--steal), or other programs
used more than 5 % (--others), is repeated. Each peer runs with the flags that were its best
in a trial of the row. --into adds to what an earlier call with the same model left there, so that a long table can be had in pieces.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import paired
import peers

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTEMPTS = 3


def say(text):
    print(text, file=sys.stderr, flush=True)


class Comparison:
    """The runs so far. `data` is what the file holds: machine, model, versions, calibrations, trials and runs."""

    def __init__(self, options, arms):
        self.options, self.arms = options, {arm.name: arm for arm in arms}
        self.data = {"machine": paired.machine(), "model": options.model.name, "model_bytes": options.model.stat().st_size,
                     "threads": options.threads, "lengths": {"prompt": options.prompt, "tokens": options.tokens,
                                                             "depth": options.depth, "sequences": options.sequences},
                     "versions": {}, "calibrations": [], "trials": {}, "runs": []}
        if options.into and options.into.exists():
            before = json.loads(options.into.read_text())
            for key in ("model", "model_bytes", "threads", "lengths"):
                if before[key] != self.data[key]:
                    sys.exit(f"{options.into}: has {key} {before[key]}, not {self.data[key]}")
            self.data = before

    def save(self):
        if self.options.into:
            self.options.into.write_text(json.dumps(self.data, indent=1) + "\n")

    def calibrate(self):
        told = json.loads(peers.run(self.arms["phid"].calibration_command(self.options), 60)[0])["calibration"]
        self.data["calibrations"].append(told)
        say(f"this machine: {told['read_gb_s']:.1f} GB/s read, {told['int8_gmac_s']:.0f} GMAC/s int8 ({told['isa']})")

    def measure(self, arm, row, flags, options=None):
        """One run, again when others had too much of it; of a trial, which has options of its own, one is enough."""
        command = arm.command(row, options or self.options, flags)
        for _ in range(ATTEMPTS):
            begin = time.monotonic()
            with paired.Watch() as watch:
                out = peers.run(command, self.options.timeout)
            result = arm.parse(row, *out)
            result.pop("calibration", None)
            result.update(steal=round(watch.stolen, 5), others=round(watch.others, 4), seconds=round(time.monotonic() - begin, 2))
            clean = watch.stolen <= self.options.steal / 100 and watch.others <= self.options.others / 100
            why = "" if clean else f"; {100 * watch.stolen:.1f} % stolen, {100 * watch.others:.0f} % used by others"
            say(f"{row.name:8} {arm.name:14} {' '.join(flags):12} {result['value']:9.2f} tok/s in {result['seconds']:.1f} s"
                f"{why}{', a trial' if options else '' if clean else ': not counted'}")
            if clean or options:
                return result
        raise peers.Unusable(f"others take too much of the processor: no clean run in {ATTEMPTS}")

    def variant(self, arm, row):
        """The flags of an arm for a row: of its variants the fastest in a trial of a quarter of the tokens."""
        trials = self.data["trials"].setdefault(row.name, {}).setdefault(arm.name, {})
        short = argparse.Namespace(**{**vars(self.options), "prompt": self.options.prompt // 4, "tokens": max(8, self.options.tokens // 4)})
        if len(arm.variants) > 1:
            for name, flags in arm.variants.items():
                if name not in trials:
                    try:
                        trials[name] = self.measure(arm, peers.rows(short)[row.name], flags, short)["value"]
                    except peers.Unusable as reason:
                        say(f"{row.name:8} {reason}")
                        trials[name] = 0
                    self.save()
            if not max(trials.values()):
                raise peers.Unusable(f"{arm.name} can do this in no way that is known here")
        return max(trials, key=trials.get) if trials else next(iter(arm.variants))

    def round(self, row):
        runs = self.data["runs"]
        number = 1 + max((run["round"] for run in runs if run["row"] == row.name), default=-1)
        done = []
        for name in paired.order(self.arms, number):
            arm = self.arms[name]
            variant = self.variant(arm, row)
            flags = arm.variants[variant]
            done.append({"row": row.name, "arm": name, "round": number, "variant": variant, **self.measure(arm, row, flags),
                         "command": " ".join(map(str, arm.command(row, self.options, flags))).replace(str(self.options.model), "MODEL")})
        # A round counts whole or not at all.
        runs.extend(done)
        self.data["versions"] = {**self.data["versions"], **{name: arm.version() for name, arm in self.arms.items()}}
        self.save()


# --------------------------------------------------------------------- table

def fraction(data, row, value):
    """Of the int8 peak for prefill, of the read bandwidth for decoding."""
    work = [run["work"] for run in data["runs"] if run["row"] == row and "work" in run]
    unit = "int8_gmac_s" if row == "prefill" else "read_gb_s"
    peaks = [c[unit] for c in data["calibrations"]]
    return value * statistics.median(work) / statistics.median(peaks) if work and peaks else 0.0


def summary(data):
    """A line for each row that was measured: medians, fractions, ratios."""
    out = []
    for row in dict.fromkeys(run["row"] for run in data["runs"]):
        runs = [run for run in data["runs"] if run["row"] == row]
        line = {"row": row, "arms": {}, "ratios": {}}
        for arm in dict.fromkeys(run["arm"] for run in runs):
            values = [run["value"] for run in runs if run["arm"] == arm]
            middle = statistics.median(values)
            line["arms"][arm] = {"tok_s": middle, "least": min(values), "most": max(values), "runs": len(values),
                                 "fraction": fraction(data, row, middle), "variant": [r["variant"] for r in runs if r["arm"] == arm][-1]}
        for arm in line["arms"]:
            values = paired.ratios(runs, "phid", arm)
            if arm != "phid" and values:
                line["ratios"][arm] = {"median": statistics.median(values), "interval": paired.interval(values), "rounds": len(values)}
        out.append(line)
    return out


def titles(data):
    options = argparse.Namespace(**data["lengths"])
    return {name: row.title for name, row in peers.rows(options).items()}


def table(data):
    """Markdown."""
    lines = summary(data)
    arms = ["phid", *sorted({arm for line in lines for arm in line["arms"]} - {"phid"}, key=lambda a: (a != "llama.cpp", a))]
    names = titles(data)
    out = ["| tok/s | " + " | ".join(["phid", "of peak", *(f"{arm} | phid / {arm}" for arm in arms[1:])]) + " |",
           "|---" * (1 + 2 * len(arms)) + "|"]
    for name in names:
        for line in (line for line in lines if line["row"] == name):
            cells = [names[name], f"{line['arms']['phid']['tok_s']:.1f}", f"{100 * line['arms']['phid']['fraction']:.0f} %"]
            for arm in arms[1:]:
                ratio = line["ratios"].get(arm)
                cells += [f"{line['arms'][arm]['tok_s']:.1f}", f"{ratio['median']:.2f} ({ratio['interval'][0]:.2f}-{ratio['interval'][1]:.2f})"] \
                    if ratio else ["", ""]
            out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def worst(data, what):
    return 100 * max((run.get(what, 0) for run in data["runs"]), default=0)


def description(data):
    """What stands under the table: machine, versions, flags."""
    machine, peaks = data["machine"], data["calibrations"]
    reads, int8 = ([c[k] for c in peaks] for k in ("read_gb_s", "int8_gmac_s"))
    rounds = [f"{line['row']} {max(found['runs'] for found in line['arms'].values())}" for line in summary(data)]
    out = [f"{data['model']} ({data['model_bytes'] / 1e9:.2f} GB), {data['threads']} threads, {machine['processor']} (family "
           f"{machine['family']}, model {machine['model']}; {' '.join(machine['features'])}), {machine['cores']} cores, Linux {machine['kernel']}",
           f"peaks while this was measured: {min(reads):.1f}-{max(reads):.1f} GB/s read, {min(int8):.0f}-{max(int8):.0f} GMAC/s int8",
           f"rounds: {', '.join(rounds)}; at most {worst(data, 'steal'):.1f} % stolen and "
           f"{worst(data, 'others'):.0f} % used by others"]
    out += [f"{name}: {version}" for name, version in data["versions"].items()]
    for line in summary(data):
        out += [f"{line['row']}, {arm}: {found['variant']}" for arm, found in line["arms"].items() if arm != "phid"]
    commands = {(run["row"], run["arm"]): run["command"] for run in data["runs"]}
    return "\n".join(["", *(f"- {text}" for text in out), "", *(f"    {command}" for command in commands.values())])


# ------------------------------------------------------------------- command

def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=pathlib.Path)
    parser.add_argument("--shape", metavar="SHAPE:TYPE", help="in place of -m: random weights, e.g. phi-3.5-mini:q4_k_m")
    parser.add_argument("--phid", default=os.environ.get("PHID_BIN", str(ROOT / "build" / "phid")))
    parser.add_argument("--llama", metavar="FOLDER", help="llama.cpp's programs (PATH)")
    parser.add_argument("--llama-version", metavar="TEXT", help="where the program does not tell it")
    parser.add_argument("--ik", metavar="FOLDER", help="ik_llama.cpp's programs")
    parser.add_argument("--ik-version", metavar="TEXT")
    parser.add_argument("--rows", default="prefill,decode,depth,batch")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="rounds of this call; 0 only tries the variants (5)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="within a run, of which the median counts; more for small models (1)")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64, help="decoded in a run (64)")
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--steal", type=float, default=1, metavar="PERCENT", help="a run from which the host took more is not counted (1)")
    parser.add_argument("--others", type=float, default=5, metavar="PERCENT", help="a run beside which programs used more is not counted (5)")
    parser.add_argument("--timeout", type=float, default=600, help="of one run, in seconds (600)")
    parser.add_argument("--into", type=pathlib.Path, metavar="FILE.json", help="keep the runs here, and go on from those in it")
    parser.add_argument("--table", type=pathlib.Path, nargs="+", metavar="FILE.json", help="only print what these files hold")
    options = parser.parse_args()
    if not options.table and (options.model is None) == (options.shape is None):
        parser.error("give one of -m, --shape and --table")
    unknown = set(options.rows.split(",")) - set(peers.rows(options))
    if unknown:
        parser.error(f"unknown row {unknown.pop()}")
    return options


def arms_of(options):
    arms = [peers.Phid(options.phid)]
    if options.llama or peers.found_on_path(peers.Llama.bench):
        arms.append(peers.Llama(options.llama, options.llama_version))
    if options.ik:
        arms.append(peers.IkLlama(options.ik, options.ik_version))
    if len(arms) == 1:
        say("no peer: llama-bench is not in PATH; --llama and --ik say where they are")
    return arms


def make_shape(options, folder):
    path = pathlib.Path(folder) / (options.shape.replace(":", "-") + ".gguf")
    subprocess.run([pathlib.Path(options.phid).parent / "tests" / "bench" / "shape", options.shape, path], check=True)
    return path


def compare(options):
    comparison = Comparison(options, arms_of(options))
    comparison.calibrate()
    rows = [peers.rows(options)[name] for name in options.rows.split(",")]
    for row in rows:
        for arm in comparison.arms.values():
            comparison.variant(arm, row)
    for _ in range(options.pairs):
        for row in rows:
            comparison.round(row)
    comparison.calibrate()
    comparison.save()
    return comparison.data


def show(data):
    print(table(data))
    print(description(data))


def main():
    options = arguments()
    if options.table:
        for path in options.table:
            show(json.loads(path.read_text()))
            print()
        return 0
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            if options.shape:
                options.model = make_shape(options, folder)
            show(compare(options))
    except peers.Unusable as reason:
        sys.exit(f"compare: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
