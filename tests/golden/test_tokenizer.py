"""Token ids against the `tokenizers` package: stored vectors, and thousands of random strings made on the fly."""
import functools
import importlib.util
import json
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent / "tokenizer"
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(HERE))

import texts  # noqa: E402  (needs the path above)

MODELS = {
    "phi-3": HERE / "ggml-vocab-phi-3.gguf",
    "tiny": ROOT / "tests" / "models" / "tiny.gguf",
    "smollm2": pathlib.Path(os.environ.get("PHID_SMOLLM2", ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")),
}
MANY = 10000
# SmolLM2's vocabulary has no token for these bytes; its tokenizer leaves the characters out.
DROPPED = {"smollm2": set("\x04\x06\x13\x14\x16\x1d")}


@pytest.fixture(params=MODELS)
def name(request):
    if not MODELS[request.param].is_file():
        pytest.skip(f"{MODELS[request.param].name} is not there; ./run.sh fetches it, or set PHID_SMOLLM2")
    return request.param


def stored(name, part):
    """(texts, ids) of the stored vectors."""
    pairs = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))[part]
    return [text for text, _ in pairs], [ids for _, ids in pairs]


def differences(inputs, got, want):
    """The wrong ones, shortest first, ready to read."""
    wrong = sorted(((len(x), x, g, w) for x, g, w in zip(inputs, got, want) if g != w))
    return f"{len(wrong)} of {len(inputs)} differ", [(x, {"got": g, "want": w}) for _, x, g, w in wrong[:5]]


@functools.cache
def reference(name, special):
    """The `tokenizers` tokenizer of a model; making one takes seconds."""
    import build
    make = build.byte_level if name == "smollm2" else build.sentencepiece
    return make(MODELS[name], special)


def reference_ids(name, special, inputs):
    if importlib.util.find_spec("tokenizers") is None:
        pytest.skip("the tokenizers package is not installed")
    return [e.ids for e in reference(name, special).encode_batch(inputs, add_special_tokens=False)]


def same(inputs, got, want):
    if got != want:
        pytest.fail("\n".join(map(str, differences(inputs, got, want))))


def test_stored_plain(phid, name):
    inputs, want = stored(name, "plain")
    same(inputs, phid.tokenize(MODELS[name], inputs), want)


def test_stored_special(phid, name):
    inputs, want = stored(name, "special")
    same(inputs, phid.tokenize(MODELS[name], inputs, "--special"), want)


def test_published_pairs(phid):
    """The .inp/.out pair published with the Phi-3 vocabulary."""
    inputs = (HERE / "ggml-vocab-phi-3.gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    want = [[int(i) for i in line.split()] for line in (HERE / "ggml-vocab-phi-3.gguf.out").read_text().splitlines()]
    assert len(inputs) == len(want) > 40
    same(inputs, phid.tokenize(MODELS["phi-3"], inputs), want)


def test_bos(phid):
    (with_bos,) = phid.tokenize(MODELS["phi-3"], ["Hello"], "--bos")
    assert with_bos == [1, 15043]


def test_decode_is_the_reverse(phid, name):
    """Decoding gives the text back; a literal U+2581 alone reads as a space in a SentencePiece vocabulary."""
    inputs, ids = stored(name, "plain")
    lost = DROPPED.get(name, set()) | {"▁"}
    kept = [(text, i) for text, i in zip(inputs, ids) if not lost & set(text)]
    assert len(kept) > 200
    got = phid.tokenize(MODELS[name], [i for _, i in kept], "--decode")
    same([i for _, i in kept], got, [text for text, _ in kept])


@pytest.mark.parametrize("special", [False, True], ids=["plain", "special"])
def test_many_random_strings(phid, name, special):
    if special:
        tokens = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"] if name == "smollm2" else texts.SPECIAL
        inputs = texts.special(11, MANY, tokens=tokens)
    else:
        inputs = texts.plain(12, MANY) + texts.any_scalar(13, MANY // 10)
    want = reference_ids(name, special, inputs)
    same(inputs, phid.tokenize(MODELS[name], inputs, *(["--special"] if special else [])), want)


@pytest.mark.parametrize("text", ["a" * 200000, " " * 200000, "ab " * 70000, "日" * 60000],
                         ids=["letters", "spaces", "words", "cjk"])
def test_long_texts(phid, name, text):
    """Time must not grow with the square of the length (the run has a limit), nor may the ids change."""
    want = reference_ids(name, False, [text])
    same([text], phid.tokenize(MODELS[name], [text]), want)
