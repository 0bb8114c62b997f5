#!/usr/bin/env python3
"""Compute the stored references again and compare: logits, and the tiny model's files and answers.

Usage: recompute.py      (needs torch, transformers, sentencepiece; `./test.sh references` runs it)

Exit 0 when everything stored is what its script makes, 1 with one line for each difference otherwise.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent / "models"
sys.path[:0] = [str(HERE), str(MODELS)]

import expect_tiny  # noqa: E402  (these need the path above)
import make_references  # noqa: E402
import models  # noqa: E402
import to_gguf  # noqa: E402
from forward import relative_rms  # noqa: E402

TOLERANCE = 5e-6  # f32 sums in another order


def logits():
    """One line for each array that differs."""
    with np.load(HERE / "references.npz") as file:
        stored = dict(file)
    made = {}
    for case in models.CASES.values():
        made.update(make_references.compute(case))
    for key in sorted(set(stored) ^ set(made)):
        yield f"{key}: only {'stored' if key in stored else 'computed'}"
    for key in sorted(set(stored) & set(made)):
        if key.endswith("/logits"):
            error = relative_rms(made[key], stored[key])
            if not error <= TOLERANCE:
                yield f"{key}: relative RMS {error:.1e}"
        elif not np.array_equal(made[key], stored[key]):
            yield f"{key}: {stored[key].tolist()} stored, {made[key].tolist()} computed"


def tiny():
    """The GGUF must come out of the checkpoint byte for byte, the answers out of transformers."""
    with tempfile.TemporaryDirectory() as folder:
        again = pathlib.Path(folder) / "tiny.gguf"
        to_gguf.convert(MODELS / "tiny", again)
        if again.read_bytes() != (MODELS / "tiny.gguf").read_bytes():
            yield "tiny.gguf is not what to_gguf.py makes of the checkpoint"
    stored = json.loads((MODELS / "tiny-expected.json").read_text(encoding="utf-8"))
    made, _ = expect_tiny.compute(MODELS / "tiny")
    for i, (old, new) in enumerate(zip(stored, made, strict=True)):
        if old != new:
            yield f"tiny-expected.json, case {i}: {old['answer']!r} stored, {new['answer']!r} computed"


def main():
    torch.set_num_threads(2)
    found = [*logits(), *tiny()]
    print("\n".join(found) if found else "every stored reference was computed again")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
