#!/usr/bin/env python3
"""Write the tiny Hugging Face checkpoint as an f16 GGUF, in the key and tensor layout used for the phi3 architecture.

Usage: to_gguf.py [CHECKPOINT] [OUT.gguf]
"""
import json
import math
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

import vocabulary as v

HERE = pathlib.Path(__file__).parent
BLOCK = {
    "input_layernorm.weight": "attn_norm.weight", "self_attn.qkv_proj.weight": "attn_qkv.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
       "lm_head.weight": "output.weight"}


def tensor_name(name):
    if name in TOP:
        return TOP[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{BLOCK[rest]}"


def vocabulary(folder, size):
    """(tokens, scores, types) of every embedding row: pieces, then added tokens, then padding."""
    kinds = gguf.TokenType
    tokens = [f"[PAD{i}]" for i in range(size)]
    scores = [-10000.0] * size
    types = [int(kinds.UNUSED)] * size
    for i, (text, score) in enumerate(v.pieces((folder / "tokenizer.model").read_bytes())):
        tokens[i], scores[i] = text, score
        types[i] = int(kinds.BYTE if v.byte_level(text) else kinds.NORMAL)
    decoder = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    for key, token in decoder.items():
        i = int(key)
        tokens[i], scores[i] = token["content"], -1000.0
        types[i] = int(kinds.CONTROL if token["special"] else kinds.USER_DEFINED)
    return tokens, scores, types


def attention_factor(config):
    scale = config["max_position_embeddings"] / config["original_max_position_embeddings"]
    return 1.0 if scale <= 1 else math.sqrt(1 + math.log(scale) / math.log(config["original_max_position_embeddings"]))


def add_metadata(w, config, folder):
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    w.add_rope_scaling_attn_factors(attention_factor(config))
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name("Tiny")
    w.add_context_length(config["max_position_embeddings"])
    w.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(config["rope_theta"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_sliding_window(config["sliding_window"])
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    tokens, scores, types = vocabulary(folder, config["vocab_size"])
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(config["bos_token_id"])
    w.add_eos_token_id(config["eos_token_id"])
    w.add_unk_token_id(0)
    w.add_pad_token_id(config["pad_token_id"])
    w.add_add_bos_token(False)
    w.add_add_eos_token(False)
    w.add_chat_template(v.CHAT_TEMPLATE)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)


def convert(folder, out):
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    state = load_file(str(folder / "model.safetensors"))
    w = gguf.GGUFWriter(str(out), "phi3")
    add_metadata(w, config, folder)
    w.add_tensor("rope_factors_long.weight", np.array(config["rope_scaling"]["long_factor"], np.float32))
    w.add_tensor("rope_factors_short.weight", np.array(config["rope_scaling"]["short_factor"], np.float32))
    order = ["model.embed_tokens.weight", *sorted(n for n in state if n not in TOP), "model.norm.weight",
             "lm_head.weight"]
    for name in order:
        x = state[name]
        w.add_tensor(tensor_name(name), x.astype(np.float32 if x.ndim == 1 else np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    convert(sys.argv[1] if len(sys.argv) > 1 else HERE / "tiny", sys.argv[2] if len(sys.argv) > 2 else HERE / "tiny.gguf")
