#!/usr/bin/env python3
"""Check that the tiny model answers every question exactly, also with its weights rounded as quantization rounds them.

Usage: check_tiny.py [CHECKPOINT] [--types f16,q8_0,q4_k,...]

Rounding is simulated here with plain round-to-nearest blocks (f16 block scales; Q4_K with 6-bit scales and minima),
which is a little worse than a searching quantizer. Prints, for each type, the wrong answers and the smallest margin
between the right token's logit and the next best.
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from transformers import Phi3ForCausalLM

import margin
from rows import Encoder

HERE = pathlib.Path(__file__).parent


def _half(x):
    return x.astype(np.float16).astype(np.float32)


def _safe(x):
    return np.where(x == 0, 1, x)


def symmetric(w, bits, block=32):
    """Q8_0, and Q4_0-like rounding: one f16 scale a block."""
    x = w.reshape(-1, block)
    top = 2 ** (bits - 1) - 1
    d = _half(np.abs(x).max(1, keepdims=True) / top)
    return (np.clip(np.round(x / _safe(d)), -top - 1, top) * d).reshape(w.shape)


def two_level(w, bits, block=32, scale_bits=6):
    """Q4_K (bits 4), Q5_K (5): blocks with a scale and a minimum, both integers times a super-block's f16 factor.

    Q2_K is bits 2, block 16 and 4-bit scales."""
    x = w.reshape(-1, 256 // block, block)
    low = np.minimum(x.min(2), 0)
    scale = (x.max(2) - low) / (2 ** bits - 1)
    top = 2 ** scale_bits - 1
    d = _half(scale.max(1, keepdims=True) / top)
    m = _half(-low.min(1, keepdims=True) / top)
    step = (np.round(scale / _safe(d)) * d)[..., None]
    floor = (np.round(-low / _safe(m)) * m)[..., None]
    q = np.clip(np.round((x + floor) / _safe(step)), 0, 2 ** bits - 1)
    return (q * step - floor).reshape(w.shape)


def scaled(w, bits):
    """Q6_K and Q3_K: blocks of 16 with an integer scale times a super-block's f16 factor."""
    x = w.reshape(-1, 16, 16)
    half = 2 ** (bits - 1)
    scale = np.abs(x).max(2) / half
    top = 127 if bits == 6 else 31
    d = _half(scale.max(1, keepdims=True) / top)
    step = (np.round(scale / _safe(d)) * d)[..., None]
    return (np.clip(np.round(x / _safe(step)), -half, half - 1) * step).reshape(w.shape)


TYPES = {
    "f16": lambda w: w,
    "q8_0": lambda w: symmetric(w, 8),
    "q6_k": lambda w: scaled(w, 6),
    "q5_k": lambda w: two_level(w, 5),
    "q4_k": lambda w: two_level(w, 4),
    "q4_0": lambda w: symmetric(w, 4),
    "q3_k": lambda w: scaled(w, 3),
    "q2_k": lambda w: two_level(w, 2, 16, 4),
}


def rounded(model, kind):
    """The model with every matrix rounded; returns the originals to put back."""
    kept = []
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                kept.append((p, p.detach().clone()))
                p.copy_(torch.from_numpy(np.ascontiguousarray(TYPES[kind](p.numpy()), dtype=np.float32)))
    return kept


def restore(kept):
    with torch.no_grad():
        for p, w in kept:
            p.copy_(w)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint", nargs="?", type=pathlib.Path, default=HERE / "tiny")
    ap.add_argument("--types", default="f16,q8_0,q4_k")
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    from tokenizers import Tokenizer
    encoder = Encoder(Tokenizer.from_file(str(a.checkpoint / "tokenizer.json")))
    model = Phi3ForCausalLM.from_pretrained(a.checkpoint, dtype=torch.float32).eval()
    failed = 0
    for kind in a.types.split(","):
        kept = rounded(model, kind)
        found = margin.margins(model, encoder)
        restore(kept)
        wrong = [ids for ids, _, least in found if least <= 0]
        print(f"{kind}: {len(found) - len(wrong)} of {len(found)} answered exactly, "
              f"smallest margin {min(least for _, _, least in found):.3f}", flush=True)
        for ids in wrong[:10]:
            print("   ", repr(encoder.tok.decode(ids, skip_special_tokens=False)[:150]))
        failed += len(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
