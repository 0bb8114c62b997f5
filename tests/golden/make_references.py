#!/usr/bin/env python3
"""Compute the reference logits of every case in models.py with transformers, in f32, and store them.

Usage: make_references.py [OUT.npz]

references.npz holds, for each case and input length, "NAME/LENGTH/logits" (f32 rows of the whole vocabulary) and
"NAME/LENGTH/positions" (which rows), and "NAME/generated" for greedy continuations. Needs torch and transformers.
"""
import pathlib
import sys

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

import models

HERE = pathlib.Path(__file__).parent
LEAST_MARGIN = 1e-3  # a greedy step closer than this would test luck


def build(case):
    """The case as a transformers model with the generated weights."""
    common = dict(vocab_size=models.VOCAB, hidden_size=case.hidden, intermediate_size=case.ff,
                  num_hidden_layers=case.layers, num_attention_heads=case.heads,
                  num_key_value_heads=case.kv_heads, max_position_embeddings=case.context,
                  rms_norm_eps=case.eps, tie_word_embeddings=case.tied, rope_theta=case.theta,
                  bos_token_id=1, eos_token_id=2, pad_token_id=2)
    if case.arch == "phi3":
        rope = None
        if case.original:
            short, long = (f.astype(float).tolist() for f in models.factors(case))
            rope = {"type": "longrope", "short_factor": short, "long_factor": long}
            if case.attention_factor:
                rope["attention_factor"] = case.attention_factor
        config = Phi3Config(**common, partial_rotary_factor=case.rotary, rope_scaling=rope,
                            original_max_position_embeddings=case.original or case.context,
                            sliding_window=case.window or None)
        kind = Phi3ForCausalLM
    else:
        rope = None
        if case.llama3:
            factor, low, high, original = case.llama3
            rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                    "original_max_position_embeddings": original}
        config = LlamaConfig(**common, head_dim=case.head, rope_scaling=rope, attention_bias=False)
        kind = LlamaForCausalLM
    config._attn_implementation = "eager"
    model = kind._from_config(config, dtype=torch.float32).eval()
    state = {name: torch.from_numpy(x.copy()) for name, x in models.state_dict(case).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if case.tied else set()), (missing, unexpected)
    check_factors(case, model)
    return model


def check_factors(case, model):
    """LongRoPE must really switch with the length of the sequence, and nothing else may."""
    rotary, seen = model.model.rotary_emb, []
    for n in (4, 4 * (case.original or 4)):
        rotary(torch.zeros(1, 1, 1), torch.arange(n)[None])
        seen.append(rotary.inv_freq.clone())
    assert torch.equal(*seen) != bool(case.original), f"{case.name}: this transformers chooses LongRoPE factors wrongly"
    assert abs(rotary.attention_scaling - case.factor) < 1e-9


def positions(case, length):
    """Rows worth keeping: the first, the last, and those around borders inside the sequence."""
    wanted = {0, length - 1}
    for border in (case.window, models.PAGE):
        if 0 < border < length:
            wanted.add(border)
    return sorted(wanted)


def compute(case):
    """{key: array} of one case."""
    model, out = build(case), {}
    with torch.no_grad():
        for length in case.lengths:
            logits = model(input_ids=torch.tensor([models.tokens(case, length)]), use_cache=False).logits[0].numpy()
            at = positions(case, length)
            out[f"{case.name}/{length}/positions"] = np.array(at, np.int32)
            out[f"{case.name}/{length}/logits"] = logits[at]
        if case.generate:
            length, n = case.generate
            prompt = torch.tensor([models.tokens(case, length)])
            made = model.generate(prompt, max_new_tokens=n, do_sample=False, output_scores=True,
                                  return_dict_in_generate=True, attention_mask=torch.ones_like(prompt))
            best = torch.stack(made.scores)[:, 0].topk(2).values
            ids = made.sequences[0, length:].numpy().astype(np.int32)
            assert (best[:, 0] - best[:, 1]).min() > LEAST_MARGIN, f"{case.name}: greedy choice too close"
            assert len(ids) == n and len(set(ids.tolist())) > 3, f"{case.name}: a poor continuation"
            out[f"{case.name}/generated"] = ids
    return out


def main():
    torch.set_num_threads(2)
    out = {}
    for case in models.CASES.values():
        out.update(compute(case))
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "references.npz"
    np.savez_compressed(path, **out)
    print(f"{len(models.CASES)} cases, {len(out)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
