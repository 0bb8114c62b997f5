"""Keys and values stored as int8 against f16: the distance of the logits, and the answers."""
import json
import pathlib

import numpy as np
import pytest

import models
from forward import relative_rms
from requantize import requantize
from test_tiny import CASES as TINY_CASES, MODEL as TINY, NAMES, answered

MODELS = TINY.parent
SMOL = pathlib.Path(__file__).resolve().parents[2] / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TRAINED = 1e-2
# Random weights make scores of random directions, whose rounding nothing averages out; LongRoPE multiplies them by up to 3.6.
RANDOM = 3e-2
CASES = [case.name for case in models.CASES.values()]


def distance(phid, path, tokens, vocab):
    int8, f16 = (phid.logits(path, tokens, vocab, False, kv=kv) for kv in ("int8", "f16"))
    assert np.isfinite(int8).all()
    return relative_rms(int8, f16)


@pytest.mark.parametrize("name", CASES)
def test_int8_is_near_f16(phid, model_file, name):
    tokens = models.tokens(models.CASES[name], models.CASES[name].lengths[-1])
    assert distance(phid, model_file(name), tokens, models.VOCAB) <= RANDOM


def test_int8_of_the_tiny_model(phid):
    """Over all its conversations, answers included."""
    vocab = json.loads(phid.run("inspect", "-m", TINY, "--json"))["vocab"]
    distances = [distance(phid, TINY, [*case["prompt_ids"], *case["answer_ids"]], vocab) for case in TINY_CASES]
    assert np.sqrt(np.mean(np.square(distances))) <= TRAINED


@pytest.mark.parametrize("case", TINY_CASES, ids=NAMES)
def test_int8_answers(phid, case):
    answered(phid, case, "--set", "engine.kv.type=int8")


def test_int8_of_smollm2(phid):
    if not SMOL.exists():
        pytest.skip("the demo model is not here")
    text = (MODELS / "README.md").read_text(encoding="utf-8")[:2000]
    tokens = phid.tokenize(SMOL, [text])[0]
    vocab = json.loads(phid.run("inspect", "-m", SMOL, "--json"))["vocab"]
    assert distance(phid, SMOL, tokens, vocab) <= TRAINED


@pytest.mark.parametrize("name, kind", [("phi3-gqa", "f16"), ("phi3-head96", "q8_0"), ("llama-head80", "f32")])
def test_int8_instruction_sets_agree(phid, model_file, name, kind):
    path = model_file(name, kind)
    tokens = models.tokens(models.CASES[name], models.CASES[name].lengths[-1])
    scalar, *others = (phid.logits(path, tokens, models.VOCAB, False, isa, "int8") for isa in phid.instruction_sets())
    for logits in others:
        assert (logits == scalar).all()


def test_int8_with_quantized_weights(phid, tmp_path):
    path = tmp_path / "tiny-q4_k.gguf"
    requantize(TINY, path, "q4_k")
    for case in TINY_CASES[:6]:
        answered(phid, case, "--set", "engine.kv.type=int8", model=path)


def test_int8_takes_half_the_memory(phid):
    def kv_bytes(kv):
        said = json.loads(phid.run("inspect", "-m", TINY, "--json", "--set", f"engine.kv.type={kv}"))
        return said["memory"]["kv_bytes_per_token"]
    assert kv_bytes("int8") < 0.65 * kv_bytes("f16")
