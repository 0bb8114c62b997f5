"""The trained tiny model answers as Hugging Face's greedy generation does, token for token."""
import json
import pathlib

import pytest

from requantize import requantize

MODELS = pathlib.Path(__file__).parent.parent / "models"
MODEL = MODELS / "tiny.gguf"
CASES = json.loads((MODELS / "tiny-expected.json").read_text(encoding="utf-8"))
NAMES = [f"{i}-{case['messages'][-1]['content'][:24]}" for i, case in enumerate(CASES)]
END = CASES[0]["answer_ids"][-1]


def answered(phid, case, *flags, model=MODEL):
    made = phid.generate(model, case["prompt_ids"], len(case["answer_ids"]) + 8, *flags)
    # The end token may be listed or left out; nothing may follow it.
    ids = made["generated"]
    assert (ids if ids and ids[-1] == END else [*ids, END]) == case["answer_ids"]
    return made


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_answers(phid, case):
    assert answered(phid, case)["text"].removesuffix("<|end|>") == case["answer"]


@pytest.mark.parametrize("case", CASES[:4] + CASES[-5:], ids=NAMES[:4] + NAMES[-5:])
def test_answers_exact(phid, case):
    answered(phid, case, "--exact")


@pytest.fixture(scope="session", params=["q8_0", "q4_k", "q4_0", "bf16"])
def quantized(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / f"tiny-{request.param}.gguf"
    requantize(MODEL, path, request.param)
    return path


def test_answers_quantized(phid, quantized):
    """Every answer again with the weights quantized and int8 activations."""
    for case in CASES:
        answered(phid, case, model=quantized)


def test_chat_prompts(phid):
    """`tokenize --chat` renders and encodes as the checkpoint's tokenizer and chat template do."""
    got = phid.tokenize(MODEL, [case["messages"] for case in CASES], "--chat")
    assert got == [case["prompt_ids"] for case in CASES]
