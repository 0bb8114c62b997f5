"""Logits of the engine against transformers' and against a float64 forward pass of the same file."""
import json

import numpy as np
import pytest

import models
from forward import Model, relative_rms

EXACT = 1e-5
# Relative RMS of the ordinary path: weights as stored, int8 activations where the weights are quantized, f16 KV.
ORDINARY = {"f32": 1e-3, "f16": 2e-3, "bf16": 1e-2}
QUANTIZED = 0.05
INPUTS = [(case.name, length) for case in models.CASES.values() for length in case.lengths]
# Every type for fused and for split tensors; the mixture of a published Q4_K_M file too.
TYPES = [(name, kind) for name in ("phi3-gqa", "llama-gqa") for kind in (*models.ENCODED, *models.RANDOM, "q4_k_m")]


def compared(references, name, length, logits):
    at = references[f"{name}/{length}/positions"]
    return relative_rms(logits[at], references[f"{name}/{length}/logits"])


@pytest.mark.parametrize("name, length", INPUTS)
def test_exact_logits_equal_transformers(phid, model_file, references, name, length):
    logits = phid.logits(model_file(name), models.tokens(models.CASES[name], length), models.VOCAB, exact=True)
    assert np.isfinite(logits).all()
    assert compared(references, name, length, logits) <= EXACT


@pytest.mark.parametrize("name, length", INPUTS)
def test_ordinary_logits_are_near(phid, model_file, name, length):
    """Over every row: the noise of an f16 KV cache in the few stored rows alone varies by a factor of two."""
    case, path = models.CASES[name], model_file(name)
    tokens = models.tokens(case, length)
    logits = phid.logits(path, tokens, models.VOCAB, exact=False)
    assert np.isfinite(logits).all()
    assert relative_rms(logits, Model(path).logits(tokens)) <= ORDINARY[case.type]


@pytest.mark.parametrize("name, length", INPUTS)
def test_float64_forward_equals_transformers(model_file, references, name, length):
    """Holds up the second reference, which the tests above and below lean on."""
    logits = Model(model_file(name)).logits(models.tokens(models.CASES[name], length))
    assert compared(references, name, length, logits) <= EXACT / 2


@pytest.mark.parametrize("name, kind", TYPES)
def test_quantized_logits(phid, model_file, name, kind):
    case, path = models.CASES[name], model_file(name, kind)
    tokens = models.tokens(case, case.lengths[-1])
    want = Model(path).logits(tokens)
    assert relative_rms(phid.logits(path, tokens, models.VOCAB, exact=True), want) <= EXACT
    assert relative_rms(phid.logits(path, tokens, models.VOCAB, exact=False), want) <= QUANTIZED


@pytest.mark.parametrize("name, kind", TYPES)
def test_rounded_prompts(phid, model_file, name, kind):
    """Weights of a prompt rounded once more: further from the reference than the default, and alike on every instruction
    set that does it. The others give the default."""
    case, path = models.CASES[name], model_file(name, kind)
    tokens = models.tokens(case, case.lengths[-1])
    want = Model(path).logits(tokens)
    ways = [(isa, *(phid.logits(path, tokens, models.VOCAB, False, isa, activations=way) for way in ("auto", "w8a8")))
            for isa in phid.instruction_sets()]
    for isa, auto, w8a8 in ways:
        assert relative_rms(w8a8, want) <= 2 * QUANTIZED
        if isa in ("avxvnni", "avx512vnni"):
            assert not np.array_equal(w8a8, auto)
        else:
            assert np.array_equal(w8a8, auto)
    rounded = [w8a8 for isa, _, w8a8 in ways if isa in ("avxvnni", "avx512vnni")]
    assert all(np.array_equal(logits, rounded[0]) for logits in rounded)


ISA_FILES = [("phi3-gqa", kind) for kind in ("f32", "f16", "bf16", *models.ENCODED, *models.RANDOM)] + [
    ("phi3-head80", "f16"), ("llama-head96", "q8_0"), ("phi3-mqa", "q4_k_m"), ("phi3-window-page", "f32")]


@pytest.mark.parametrize("name, kind", ISA_FILES)
def test_instruction_sets_agree(phid, model_file, name, kind):
    """Integer parts are equal bit for bit; sums of floats in another order, and f16 roundings after them, are not."""
    case, path = models.CASES[name], model_file(name, kind)
    tokens = models.tokens(case, case.lengths[-1])
    want = Model(path).logits(tokens)
    scalar, *others = (phid.logits(path, tokens, models.VOCAB, False, isa) for isa in phid.instruction_sets())
    limit = ORDINARY.get(kind, QUANTIZED)
    assert relative_rms(scalar, want) <= limit
    for logits in others:
        assert relative_rms(logits, want) <= limit
        assert relative_rms(logits, scalar) <= limit / 2


# Shapes that quantized rows must fit too: a head of 96, tied heads, rows of 96 and 160 (whole blocks of 32 only).
@pytest.mark.parametrize("name, kind", [
    ("phi3-head96", "q8_0"), ("phi3-head80", "q4_0"), ("phi3-tied", "q6_k"), ("llama-tied", "q4_k"),
    ("phi3-longrope", "q4_k_m"), ("phi3-head72", "f16"), ("llama-ff100", "bf16")])
def test_quantized_shapes(phid, model_file, name, kind):
    case, path = models.CASES[name], model_file(name, kind)
    for length in case.lengths:
        tokens = models.tokens(case, length)
        want = Model(path).logits(tokens)
        assert relative_rms(phid.logits(path, tokens, models.VOCAB, exact=True), want) <= EXACT
        limit = ORDINARY.get(kind, QUANTIZED)
        assert relative_rms(phid.logits(path, tokens, models.VOCAB, exact=False), want) <= limit


def test_split_qkv(phid, references, tmp_path):
    """A phi3 file may hold q, k and v apart."""
    name = "phi3-gqa"
    case, path = models.CASES[name], tmp_path / "split.gguf"
    models.write(case, path, split=True)
    for length in case.lengths:
        logits = phid.logits(path, models.tokens(case, length), models.VOCAB, exact=True)
        assert compared(references, name, length, logits) <= EXACT


@pytest.mark.parametrize("name", [case.name for case in models.CASES.values() if case.generate])
def test_greedy_across_the_original_context(phid, model_file, references, name):
    """The token after the original context needs everything before it run again with the long factors."""
    case = models.CASES[name]
    length, n = case.generate
    assert length < case.original < length + n
    made = phid.generate(model_file(name), models.tokens(case, length), n, "--exact")
    assert made["generated"] == references[f"{name}/generated"].tolist()


def test_last_logits_and_json(phid, model_file, references):
    """`--logits last` and the JSON form carry the same numbers as the raw form."""

    name, length = "phi3-gqa", 8
    case, path = models.CASES[name], model_file(name)
    tokens = models.tokens(case, length)
    listed = ",".join(map(str, tokens))
    every = phid.logits(path, tokens, models.VOCAB, exact=True)
    raw = phid.run("eval", "-m", path, "--tokens", listed, "--logits", "last", "--format", "f32", "--exact")
    last = np.frombuffer(raw, "<f4")
    assert last.shape == (models.VOCAB,) and relative_rms(last, every[-1]) <= 1e-6
    answer = json.loads(phid.run("eval", "-m", path, "--tokens", listed, "--logits", "all", "--exact"))
    assert answer["tokens"] == tokens
    assert relative_rms(answer["logits"], every) <= 1e-6


def test_tokens_file(phid, model_file, tmp_path):
    case, path = models.CASES["phi3-gqa"], model_file("phi3-gqa")
    tokens = models.tokens(case, 8)
    file = tmp_path / "tokens"
    file.write_text(",".join(map(str, tokens)) + "\n")
    raw = phid.run("eval", "-m", path, "--tokens-file", file, "--logits", "all", "--format", "f32", "--exact")
    assert (np.frombuffer(raw, "<f4").reshape(8, -1) == phid.logits(path, tokens, models.VOCAB, exact=True)).all()


def test_runs_repeat_bit_for_bit(phid, model_file):
    case, path = models.CASES["phi3-gqa"], model_file("phi3-gqa", "q4_k")
    tokens = models.tokens(case, case.lengths[-1])
    first, second = (phid.logits(path, tokens, models.VOCAB, exact=False) for _ in range(2))
    assert (first == second).all()
