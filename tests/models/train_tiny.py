#!/usr/bin/env python3
"""Train the tiny Phi-3-architecture chat model and write it as a Hugging Face checkpoint.

Usage: train_tiny.py [--steps N] [--drill N] [--drill-only] [--out FOLDER] [--threads N]

The same versions of torch and sentencepiece give the same weights again. Each step sees conversations made of
random questions in random order, so that an answer depends on its question and not on its position.
Weight noise of the size of 4-bit rounding is added at every step: the answers must survive quantization.
"""
import argparse
import math
import pathlib
import time

import torch
from safetensors.torch import save_file
from transformers import Phi3Config, Phi3ForCausalLM

import margin
import vocabulary as v
from rows import ORIGINAL, Encoder, Rows

HERE = pathlib.Path(__file__).parent
CONTEXT, HEAD_DIM = 4096, 64
NOISE = 0.10   # relative to a row's size; 4-bit rounding is 0.07
GENTLE_NOISE = 0.07
ENOUGH = 3.0   # logits between the right token and the next best


def factors():
    """Genuinely different short and long lists, growing towards the slow dimensions as the published ones do."""
    half = HEAD_DIM // 2
    short = [round(1.0 + 0.8 * (i / (half - 1)) ** 2, 6) for i in range(half)]
    long = [round(1.0 + 15.0 * (i / (half - 1)) ** 1.5, 6) for i in range(half)]
    return short, long


def config_json():
    short, long = factors()
    return {
        "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": v.ENDOFTEXT, "hidden_act": "silu",
        "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 512,
        "max_position_embeddings": CONTEXT, "model_type": "phi3", "num_attention_heads": 4,
        "num_hidden_layers": 3, "num_key_value_heads": 2, "original_max_position_embeddings": ORIGINAL,
        "pad_token_id": v.ENDOFTEXT, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
        "rope_scaling": {"long_factor": long, "short_factor": short, "type": "longrope"},
        "rope_theta": 10000.0, "sliding_window": 262144, "tie_word_embeddings": False,
        "torch_dtype": "float16", "use_cache": True, "vocab_size": v.SIZE,
    }


def perturb(matrices, sigma, generator):
    """Add noise of `sigma` times each row's size; returns what to take away again."""
    added = []
    with torch.no_grad():
        for w in matrices:
            size = w.pow(2).mean(1, keepdim=True).sqrt() * sigma
            noise = torch.empty_like(w).normal_(generator=generator) * size
            w += noise
            added.append(noise)
    return added


def step(model, optimizer, batch, sigma, generator):
    """One update at weights with noise; returns the loss."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    ids, targets = batch
    added = perturb(matrices, sigma, generator)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets[:, 1:].reshape(-1))
    loss.backward()
    with torch.no_grad():
        for w, noise in zip(matrices, added):
            w -= noise
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def make_optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)


def set_rate(optimizer, rate):
    for group in optimizer.param_groups:
        group["lr"] = rate


def train(model, rows, steps, seed):
    """Everything in random order, under rising noise and a falling rate."""
    optimizer = make_optimizer(model)
    generator = torch.Generator().manual_seed(seed)
    started, mean = time.time(), None
    for i in range(steps):
        set_rate(optimizer, 2e-3 * min(1.0, i / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * i / steps))))
        sigma = NOISE * min(1.0, max(0.0, i / steps - 0.15) / 0.3)
        loss = step(model, optimizer, rows.batch(), sigma, generator)
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        if i % 50 == 0 or i == steps - 1:
            print(f"step {i} loss {mean:.4f} noise {sigma:.3f} seconds {time.time() - started:.0f}", flush=True)


def drill(model, rows, steps, seed):
    """A second, gentler pass that asks the questions with the least margin more often."""
    optimizer = make_optimizer(model)
    generator = torch.Generator().manual_seed(seed + 1)
    weak = []
    for i in range(steps):
        if i % 70 == 0:
            found = margin.margins(model, rows.encoder)
            weak = [(ids, targets) for ids, targets, least in found if least < ENOUGH]
            wrong = sum(least <= 0 for _, _, least in found)
            print(f"step {i}: {wrong} wrong, {len(weak)} with a margin below {ENOUGH}", flush=True)
        set_rate(optimizer, 4e-4 * min(1.0, i / 30) * 0.5 * (1 + math.cos(math.pi * i / steps)))
        step(model, optimizer, rows.drill(weak), GENTLE_NOISE, generator)


def save(model, out):
    state = {name: w.detach().to(torch.float16).contiguous() for name, w in model.state_dict().items()}
    save_file(state, str(out / "model.safetensors"), metadata={"format": "pt"})
    v.write_json(out / "config.json", config_json())
    v.write_json(out / "generation_config.json", {
        "_from_model_config": True, "bos_token_id": 1, "eos_token_id": [v.END, v.ASSISTANT, v.ENDOFTEXT],
        "pad_token_id": v.ENDOFTEXT})


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--steps", type=int, default=1600)
    ap.add_argument("--drill", type=int, default=700)
    ap.add_argument("--drill-only", action="store_true", help="start from the weights in the folder")
    ap.add_argument("--out", type=pathlib.Path, default=HERE / "tiny")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    encoder = Encoder(v.build(a.out))
    rows = Rows(encoder, a.seed)
    if not a.drill_only:
        model = Phi3ForCausalLM._from_config(Phi3Config(**config_json()), dtype=torch.float32)
        print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
        train(model, rows, a.steps, a.seed)
        save(model, a.out)
    # The second stage always starts from the file, so that it can be run alone with the same result.
    model = Phi3ForCausalLM.from_pretrained(a.out, dtype=torch.float32)
    drill(model, Rows(encoder, a.seed + 1), a.drill, a.seed)
    save(model, a.out)


if __name__ == "__main__":
    main()
