"""The accuracy gate: the ordinary path against the exact one, as tests/bench/accuracy.py reports it."""
import json
import pathlib
import subprocess
import sys

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
