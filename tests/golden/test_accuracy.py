"""The accuracy gate: the ordinary path against the exact one, as tests/bench/accuracy.py reports it."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from requantize import requantize

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "models" / "tiny.gguf"
SMOL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def gate(phid, model, *flags):
    command = [sys.executable, ROOT / "tests" / "bench" / "accuracy.py", "-m", model, "--json", *flags]
    done = subprocess.run([*map(str, command)], capture_output=True, timeout=600, env={"PHID_BIN": phid.program})
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["variants"]


def check(result, relative_rms, kl, top1):
    assert result["relative_rms"] <= relative_rms
    assert result["kl_mean"] <= kl
    assert result["top1"] >= top1


def test_tiny_model(phid):
    """f16 weights: what is left is the f16 KV cache. Text that the model was not made for is the harder case."""
    variants = gate(phid, TINY, "--tokens", "200")
    check(variants["ordinary"], 2e-3, 1e-4, 0.98)
    check(variants["kv-int8"], 3e-2, 5e-3, 0.95)


@pytest.mark.parametrize("kind", ["q4_k", "q8_0"])
def test_quantized_tiny_model(phid, tmp_path, kind):
    path = tmp_path / f"{kind}.gguf"
    requantize(TINY, path, kind)
    variants = gate(phid, path, "--tokens", "200")
    check(variants["ordinary"], 5e-3, 5e-4, 0.97)
    check(variants["int8"], 6e-2, 2e-2, 0.85)


def test_smollm2(phid):
    if not SMOL.exists():
        pytest.skip("the demo model is not here")
    variants = gate(phid, SMOL, "--tokens", "64")
    check(variants["ordinary"], 2e-3, 1e-4, 0.98)
    check(variants["kv-int8"], 2e-2, 2e-3, 0.93)


def test_beside_another_program(phid, tmp_path):
    """A file as llama-perplexity writes it: our exact logits in its form come out as exact as its 16 bits are."""
    tokens = [1, *range(400, 431)]
    rows = exact_rows(phid, tokens)[16:31]
    most, least = rows.max(axis=1, keepdims=True), np.maximum(rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True) - 16)
    scale = (most - least) / 65535
    least_probability = least - most - np.log(np.exp(rows - most).sum(axis=1, keepdims=True))
    head = np.concatenate([scale, least_probability], axis=1).astype("<f4").view("<u2")
    steps = np.maximum(0, np.rint((rows - least) / scale)).astype("<u2")
    odd = np.zeros((len(rows), rows.shape[1] % 2), "<u2")
    file = tmp_path / "logits"
    file.write_bytes(b"_logits_" + np.array([32, rows.shape[1], 1, *tokens], "<i4").tobytes()
                     + np.concatenate([head, steps, odd], axis=1).tobytes())
    variants = gate(phid, TINY, "--peer", f"same={file}", "--variant", "ordinary=")
    assert list(variants) == ["same", "ordinary"]
    check(variants["same"], 1e-4, 1e-6, 1)
    check(variants["ordinary"], 2e-3, 1e-4, 0.95)


def exact_rows(phid, tokens):
    command = [phid.program, "eval", "-m", str(TINY), "--tokens", ",".join(map(str, tokens)), "--logits", "all", "--format", "f32", "--exact"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    return np.frombuffer(raw, "<f4").reshape(len(tokens), -1).astype(np.float64)
