"""The programs that compare.py runs: how each is asked for a row of the table, and where its answer stands.

A program has a name, variants (flags of which its better ones count, row by row) and for each row a command that prints tokens per
second. All get the same threads and lengths, f16 keys and values, and a file that is in the page cache.
"""
import json
import os
import pathlib
import statistics
import subprocess


class Unusable(Exception):
    """The program is not there, failed, or printed something else."""


class Row:
    """prompt: tokens measured by prefill; depth: tokens before decoding; sequences: decoded at once."""

    def __init__(self, name, title, prompt=0, depth=0, sequences=1):
        self.name, self.title, self.prompt, self.depth, self.sequences = name, title, prompt, depth, sequences


def rows(options):
    """The table's rows, in its order."""
    return {row.name: row for row in (
        Row("prefill", f"prefill {options.prompt}", prompt=options.prompt),
        Row("decode", "decode, empty context"),
        Row("depth", f"decode at {options.depth:,} tokens", depth=options.depth),
        Row("batch", f"{options.sequences} sequences, total", depth=16, sequences=options.sequences))}


def run(command, timeout):
    try:
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=timeout)
    except FileNotFoundError as reason:
        raise Unusable(f"{command[0]}: not found") from reason
    except subprocess.TimeoutExpired as reason:
        raise Unusable(f"{command[0]}: took longer than {timeout:.0f} s") from reason
    if done.returncode != 0:
        raise Unusable(f"{command[0]}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout, done.stderr


class Phid:
    name, variants = "phid", {"default": []}

    def __init__(self, program):
        self.program = program

    def version(self):
        told = json.loads(run([self.program, "version", "--json"], 30)[0])
        return f"{told['version']} ({told['commit']}), {told['isa']}"

    def command(self, row, options, flags):
        lengths = ["-p", f"32,{row.prompt}", "-n", 0] if row.prompt else \
            ["-p", 0, "-n", options.tokens, "-d", row.depth, "-b", row.sequences]
        return [self.program, "bench", "-m", options.model, "--threads", options.threads, "-r", options.repeats, *lengths, "--json", *flags]

    def calibration_command(self, options):
        return [self.program, "bench", "-m", options.model, "--threads", options.threads, "-p", 0, "-n", 0, "--json"]

    def parse(self, row, text, _):
        """Tokens per second, and what a token costs: multiply-adds for prefill, bytes for decoding."""
        told = json.loads(text)
        found = told["prefill"][-1:] if row.prompt else told["decode"][-1:]
        if not found:
            raise Unusable("phid: nothing was measured")
        work = found[0]["gmac_s" if row.prompt else "gb_s"] / found[0]["tok_s"]
        return {"value": found[0]["tok_s"], "work": work, "calibration": told["calibration"]}


class Llama:
    """llama.cpp: llama-bench, and llama-batched-bench for many sequences. It repacks weights of some types unless told not to."""

    name, bench, batched = "llama.cpp", "llama-bench", "llama-batched-bench"
    variants = {"flash attention": ["-fa", "on"], "no flash attention": ["-fa", "off"],
                "flash attention, not repacked": ["-fa", "on", "-nr"], "no flash attention, not repacked": ["-fa", "off", "-nr"]}

    def __init__(self, folder, version=None):
        self.folder, self.told = folder, version

    def program(self, name):
        return str(pathlib.Path(self.folder) / name) if self.folder else name

    def version(self):
        return self.told or "version unknown"

    def bench_flags(self, flags):
        """llama-bench has another word for it than the other programs."""
        return [*flags[:2], "--repack", "0"] if "-nr" in flags else flags

    def command(self, row, options, flags):
        if row.sequences > 1:
            cells = (row.depth + options.tokens + 255) // 256 * 256 * row.sequences
            return [self.program(self.batched), "-m", options.model, "-t", options.threads, "-c", cells, "-npp", row.depth,
                    "-ntg", options.tokens, "-npl", row.sequences, *flags]
        # A short prompt first: it brings the weights in, as a whole one would for twice the time.
        lengths = ["-p", f"32,{row.prompt}", "-n", 0, *self.no_warmup()] if row.prompt else self.decode_lengths(row, options)
        return [self.program(self.bench), "-m", options.model, "-t", options.threads, "-r", options.repeats, *lengths,
                *self.bench_flags(flags), "-o", "json"]

    def no_warmup(self):
        return ["--no-warmup"]

    def decode_lengths(self, row, options):
        return ["-p", 0, "-n", options.tokens, "-d", row.depth]

    def parse(self, row, text, log):
        if row.sequences > 1:
            return {"value": self.parse_batched(text + "\n" + log)}
        try:
            entry = json.loads(text[text.index("["):text.rindex("]") + 1])[-1]
            value = statistics.median(entry["samples_ts"])
        except (ValueError, KeyError, IndexError, statistics.StatisticsError) as reason:
            raise Unusable(f"{self.name}: not the JSON of llama-bench: {text[-200:]!r}") from reason
        if self.told is None and entry.get("build_commit", "unknown") != "unknown":
            self.told = f"{entry['build_commit']} (build {entry.get('build_number', '?')})"
        return {"value": value}

    def parse_batched(self, text):
        """The eighth column of the last line of its table: S_TG t/s."""
        lines = [line for line in text.splitlines() if line.startswith("|")]
        try:
            cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
            heads = [cell.strip() for cell in lines[0].strip("|").split("|")]
            return float(cells[heads.index("S_TG t/s")])
        except (IndexError, ValueError) as reason:
            raise Unusable(f"{self.name}: not the table of llama-batched-bench: {text[-200:]!r}") from reason


class IkLlama(Llama):
    """ik_llama.cpp, whose flags are those of an older llama.cpp."""

    name = "ik_llama.cpp"
    variants = {"flash attention": ["-fa", "on"], "flash attention, repacked": ["-fa", "on", "-rtr"],
                "no flash attention": ["-fa", "off"]}

    def bench_flags(self, flags):
        """Its llama-bench wants 1 and 0, and a value for -rtr; its other programs do not."""
        out = ["-fa", "1" if flags[1] == "on" else "0"]
        return [*out, "-rtr", "1"] if "-rtr" in flags else out

    def no_warmup(self):
        return ["-w", "0"]

    def decode_lengths(self, row, options):
        if row.depth:
            return ["-p", 0, "-n", 0, "-gp", f"{row.depth},{options.tokens}"]
        return ["-p", 0, "-n", options.tokens]


def found_on_path(name):
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)
