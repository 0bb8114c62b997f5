"""Fixtures of the golden tests: the program under test and the model files it is given."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import models  # noqa: E402  (needs the path above)


class Phid:
    """Runs the program; every failure shows the command and what it said."""

    def __init__(self, program):
        self.program = str(program)

    def run(self, *arguments, stdin=None, seconds=600):
        command = [self.program, *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(command)[:400]}\nexit {done.returncode}\n{said[-2000:]}"
        return done.stdout

    def instruction_sets(self):
        """The ones this machine can run, from the plainest."""
        best = json.loads(self.run("version", "--json"))["isa"]
        known = ["scalar", "neon", "dotprod", "i8mm"]
        if best in known:
            return known[:known.index(best) + 1]
        known = ["scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"]
        if best != "avxvnni" and "avx_vnni" not in pathlib.Path("/proc/cpuinfo").read_text():
            known.remove("avxvnni")  # some processors with AVX-512 lack it
        return known[:known.index(best) + 1] if best in known else ["scalar", best]

    def logits(self, model, tokens, vocab, exact, isa=None, kv=None, activations=None):
        """f32 [len(tokens), vocab]."""
        flags = (["--exact"] if exact else []) + (["--isa", isa] if isa else [])
        flags += ["--set", f"engine.kv.type={kv}"] if kv else []
        flags += ["--set", f"engine.activations={activations}"] if activations else []
        raw = self.run("eval", "-m", model, "--tokens", ",".join(map(str, tokens)), "--logits", "all",
                       "--format", "f32", *flags)
        out = np.frombuffer(raw, "<f4")
        assert out.size == len(tokens) * vocab, f"{out.size} floats for {len(tokens)} rows of {vocab}"
        return out.reshape(len(tokens), vocab)

    def generate(self, model, tokens, n, *flags):
        """The JSON object of a greedy continuation."""
        raw = self.run("eval", "-m", model, "--tokens", ",".join(map(str, tokens)), "-n", n, *flags)
        return json.loads(raw)

    def tokenize(self, model, texts, *flags):
        """A list of ids for each text (or for each list of messages, with --chat)."""
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        raw = self.run("tokenize", "-m", model, *flags, stdin=lines.encode(), seconds=120)
        out = [json.loads(line) for line in raw.splitlines()]
        assert len(out) == len(texts), f"{len(out)} lines for {len(texts)}"
        return out


@pytest.fixture(scope="session")
def phid():
    program = pathlib.Path(os.environ.get("PHID_BIN", ROOT / "build" / "phid"))
    if not program.is_file():
        pytest.fail(f"{program} is not there: build phid, or set PHID_BIN")
    return Phid(program)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """model_file(case name, type or None) -> path of the GGUF, written once a session."""
    folder, known = tmp_path_factory.mktemp("models"), {}

    def make(name, kind=None):
        if (name, kind) not in known:
            path = folder / f"{name}-{kind or 'own'}.gguf"
            models.write(models.CASES[name], path, kind)
            known[name, kind] = path
        return known[name, kind]

    return make


@pytest.fixture(scope="session")
def references():
    with np.load(HERE / "references.npz") as stored:
        return dict(stored)
