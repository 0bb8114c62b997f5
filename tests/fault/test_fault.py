"""Each allocation and each file call of phid's own code fails once: the answer is an error line and exit code 1, or the
fault did not matter and the result is right. Never a signal, never a hang, never a wrong result."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHID = pathlib.Path(os.environ.get("PHID_BIN", ROOT / "build" / "phid"))
MODULE = PHID.parent / "tests" / "fault" / "libfault.so"
TINY = ROOT / "tests" / "models" / "tiny.gguf"
VOCABULARY = ROOT / "tests" / "golden" / "tokenizer" / "ggml-vocab-phi-3.gguf"
PATIENCE = float(os.environ.get("PHID_TEST_PATIENCE", "1"))

COMMANDS = {
    "version": (["version", "--json"], ""),
    "config": (["version", "--config", "CONFIG", "--set", "model.alias=[a, b]", "--set", "log.level=debug"], ""),
    "inspect": (["inspect", "-m", str(TINY), "--json"], ""),
    "tokenize": (["tokenize", "-m", str(TINY)], '"What is the capital of France?"\n'),
    "tokenize-chat": (["tokenize", "-m", str(TINY), "--chat"], '[{"role": "user", "content": "Hello"}]\n'),
    "tokenize-large": (["tokenize", "-m", str(VOCABULARY)], '"What is the capital of France?"\n'),
    "eval": (["eval", "-m", str(TINY), "--tokens", "5,6,7", "--threads", "1"], ""),
    "eval-exact": (["eval", "-m", str(TINY), "--tokens", "5,6,7", "--exact", "--threads", "2"], ""),
    "generate": (["eval", "-m", str(TINY), "--prompt", "What is", "-n", "4", "--threads", "2"], ""),
    "run": (["run", "-m", str(TINY), "--chat", "What is the capital of France?"], ""),
    "chat": (["chat", "-m", str(TINY), "-t", "0"], "What is the capital of France?\n"),
    "quantize": (["quantize", str(TINY), "OUT", "q4_k", "--json"], ""),
}


def run(name, kind, at, folder):
    arguments, stdin = COMMANDS[name]
    places = {"CONFIG": str(folder / "phid.yaml"), "OUT": str(folder / "out.gguf")}
    done = subprocess.run([PHID, *(places.get(a, a) for a in arguments)], input=stdin, capture_output=True, text=True,
                          timeout=60 * PATIENCE,
                          env={**os.environ, "LD_PRELOAD": str(MODULE), "PHID_FAULT_KIND": kind, "PHID_FAULT_AT": str(at)})
    errors = done.stderr.splitlines()
    calls = [line for line in errors if line.startswith("calls ")]
    return done, [line for line in errors if not line.startswith("calls ")], [int(n) for n in calls[-1].split()[1:]] if calls else None


def chosen(count):
    """All of the first 150 calls, and about as many of the others."""
    step = max(1, (count - 150) // 150)
    return [*range(1, min(count, 150) + 1), *range(151, count + 1, step)]


@pytest.mark.parametrize("kind", ["alloc", "io"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_fault_is_an_error(tmp_path, name, kind):
    if not MODULE.exists():
        pytest.skip("a sanitizer's allocator does not go with the fault module")
    (tmp_path / "phid.yaml").write_text("server: {host: localhost, cors_origins: ['*']}\n"
                                        "placement: {layers: [{range: 0-3, device: cpu}]}\n")
    good, errors, calls = run(name, kind, 0, tmp_path)
    assert good.returncode == 0 and not errors and calls, good.stderr
    count = calls[0 if kind == "alloc" else 1]
    assert count > 0 or kind == "io"
    for at in chosen(count):
        done, errors, _ = run(name, kind, at, tmp_path)
        where = f"{name}, {kind} {at} of {count}: exit {done.returncode}\n{done.stderr[-500:]}"
        if done.returncode == 0:
            assert done.stdout == good.stdout, where
        else:
            assert done.returncode in (1, 2), where
            assert len(errors) == 1 and errors[0].startswith("phid: error: ") and len(errors[0]) > 20, where


def test_the_module_reaches_the_program(tmp_path):
    if not MODULE.exists():
        pytest.skip("a sanitizer's allocator does not go with the fault module")
    done, errors, _ = run("version", "alloc", 1, tmp_path)
    assert done.returncode == 1 and "memory" in errors[0]
    assert json.loads(run("version", "alloc", 0, tmp_path)[0].stdout)["version"]
