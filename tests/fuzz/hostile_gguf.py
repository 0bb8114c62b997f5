#!/usr/bin/env python3
"""Write hostile GGUF models: each one a valid tiny model with one thing wrong, or bytes that were never a model.

Usage: hostile_gguf.py FOLDER         writes NAME.gguf for every case, and manifest.json
The manifest gives for each file the stage that refuses it ("file": the reader; "model": reader fine, model or tokenizer not;
"template": only chat is affected; "weights": the numbers are no numbers; "vocabulary": good for tokenizing, nothing else)
and a fragment of the error.
"""
import json
import math
import pathlib
import struct
import sys

import tiny_gguf as g
from tiny_gguf import ARRAY, BOOL, F32, F64, I8, I16, I32, STRING, U8, U16, U32, U64, Raw, Tensor, u32, u64

CASES = {}  # name -> (stage, fragment, function of a fresh model that returns bytes, or changes it and returns None)


def case(name, fragment, stage="file"):
    def add(function):
        assert name not in CASES, name
        CASES[name] = (stage, fragment, function)
        return function
    return add


def raw(name, fragment, data):
    case(name, fragment)(lambda m: data)


def key(name, fragment, key_name, kind, x, stage="model"):
    """One key set to something else."""
    case(name, fragment, stage)(lambda m: m.set(key_name, kind, x))


def without(name, fragment, key_name, stage="model"):
    case(name, fragment, stage)(lambda m: m.drop(key_name))


HEADER = b"GGUF" + u32(3)

# ---------------------------------------------------------------------------------------------- header
raw("g01_empty", "not a GGUF file", b"")
raw("g02_four_bytes", "header", b"GGUF")
raw("g03_wrong_magic", "magic number at offset 0", b"GGML" + u32(3) + u64(0) + u64(0))
raw("g03_text", "magic number at offset 0", b"# a markdown file\n" * 10)
raw("g03_html", "magic number at offset 0", b"<!doctype html><html><body>404</body></html>")
raw("g03_safetensors", "magic number at offset 0", u64(2) + b"{}")
raw("g04_version_0", "version 0", b"GGUF" + u32(0) + u64(0) + u64(0))
raw("g04_version_1", "version 1", b"GGUF" + u32(1) + u32(0) + u32(0) + u64(0))
raw("g04_version_4", "version 4", b"GGUF" + u32(4) + u64(0) + u64(0))
raw("g05_big_endian", "big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
raw("g06_n_kv_2_63", "offset 16", HEADER + u64(0) + u64(1 << 63))
raw("g06_n_kv_all_ones", "offset 16", HEADER + u64(0) + u64(-1))
raw("g07_n_kv_2_40", "offset 16", HEADER + u64(0) + u64(1 << 40) + bytes(200))
raw("g08_n_tensors_2_60", "offset 8", HEADER + u64(1 << 60) + u64(0) + bytes(200))


@case("g09_no_tensors", "vocabulary only", "vocabulary")
def _(m):
    m.tensors.clear()


@case("g09_no_tensors_no_keys", "is missing", "model")
def _(m):
    m.tensors.clear()
    m.keys.clear()


for at in (5, 9, 17, 23, 30, 60, 100, 500, 3000, 7000, 9000, 20000):
    case(f"g10_cut_at_{at}", "offset")(lambda m, at=at: m.data()[:at])

# ---------------------------------------------------------------------------------------------- keys
raw("g11_key_length_2_62", "offset 24", HEADER + u64(0) + u64(1) + u64(1 << 62) + bytes(64))
raw("g12_empty_key", "the key is empty", HEADER + u64(0) + u64(1) + g.string("") + u32(U32) + u32(1) + bytes(9))
case("g13_key_with_nul", "printable")(lambda m: m.set("a\0b", U32, 1))
case("g13_key_bad_utf8", "UTF-8")(lambda m: m.set(b"a\xffb", U32, 1))
case("g13_key_escape", "printable")(lambda m: m.set("a\x1b[31m", U32, 1))


@case("g14_duplicate_key", "twice")
def _(m):
    m.tail = g.string("phi3.block_count") + u32(U32) + u32(1)
    m.key_count = len(m.keys) + 1


@case("g15_300k_keys", "300000")
def _(m):
    return HEADER + u64(0) + u64(300000) + b"".join(g.string(f"k{i:06d}") + u32(U8) + b"\1" for i in range(300000))


@case("g15_60k_keys", "is missing", "model")
def _(m):
    return HEADER + u64(0) + u64(60000) + b"".join(g.string(f"k{i:06d}") + u32(U8) + b"\1" for i in range(60000))


case("g16_value_type_99", "unknown value type 99")(lambda m: m.set("x", 99, Raw(bytes(8))))
case("g16_value_type_all_ones", "unknown value type 4294967295")(lambda m: m.set("x", 0xffffffff, Raw(bytes(8))))
case("g17_string_2_63", "key 'x' at offset")(lambda m: m.set("x", STRING, Raw(u64(1 << 63))))
case("g17_string_past_end", "key 'x' at offset")(lambda m: m.set("x", STRING, Raw(u64(10 << 20))))
case("g17_string_bad_utf8", "not valid UTF-8")(lambda m: m.set("general.author", STRING, b"\xc0\x80"))
case("g18_array_2_61", "key 'x' at offset")(lambda m: m.set("x", ARRAY, Raw(u32(U64) + u64(1 << 61))))
case("g18_array_2_62_u32", "key 'x' at offset")(lambda m: m.set("x", ARRAY, Raw(u32(U32) + u64(1 << 62))))
case("g19_array_of_arrays", "array of arrays")(
    lambda m: m.set("x", ARRAY, Raw(u32(ARRAY) + u64(1) + u32(U32) + u64(1) + u32(1))))
case("g19_array_nested_deep", "array of arrays")(lambda m: m.set("x", ARRAY, Raw((u32(ARRAY) + u64(1)) * 100000)))
case("g19_array_element_type_77", "unknown type 77")(lambda m: m.set("x", ARRAY, Raw(u32(77) + u64(1) + u64(1))))
case("g20_string_array_2_40", "key 'x' at offset")(lambda m: m.set("x", ARRAY, Raw(u32(STRING) + u64(1 << 40))))
case("g20_string_array_bad_element", "element 1 of 2")(
    lambda m: m.set("x", ARRAY, Raw(u32(STRING) + u64(2) + g.string("a") + u64(1 << 50))))
case("g21_bool_7", "0 or 1, found 7")(lambda m: m.set("x", BOOL, 7))
case("g21_bool_array", "0 or 1, found 9")(lambda m: m.set("x", ARRAY, Raw(u32(BOOL) + u64(3) + b"\0\1\x09")))

# ---------------------------------------------------------------------------------------------- values
for alignment in (0, 1, 3, 4, 33, 1 << 20, 1 << 31):
    key(f"g22_alignment_{alignment}", "'general.alignment' at offset", "general.alignment", U32, alignment, "file")
key("g25_alignment_string", "found string", "general.alignment", STRING, "32", "file")
key("g25_alignment_float", "found f32", "general.alignment", F32, 32.0, "file")
without("g26_architecture_missing", "general.architecture", "general.architecture")
key("g26_architecture_empty", "architecture", "general.architecture", STRING, "")
key("g26_architecture_number", "general.architecture", "general.architecture", U32, 3)
key("g26_architecture_unknown", "frobnicate", "general.architecture", STRING, "frobnicate")
key("g26_architecture_long", "architecture", "general.architecture", STRING, "x" * 100000)
key("g26_architecture_control", "architecture", "general.architecture", STRING, "phi3\n\x1b[31mphid: error")
for count in (0, 1, 3, 100000, 1 << 31, (1 << 32) - 1):
    fragment = "block_count" if count != 1 and count != 3 else "blk."
    key(f"g27_block_count_{count}", fragment, "phi3.block_count", U32, count)
key("g27_block_count_string", "block_count", "phi3.block_count", STRING, "2")
key("g27_block_count_negative", "block_count", "phi3.block_count", I32, -2)
key("g27_block_count_float", "block_count", "phi3.block_count", F32, 2.0)
key("g27_block_count_bool", "block_count", "phi3.block_count", BOOL, 1)
key("g27_block_count_array", "block_count", "phi3.block_count", ARRAY, (U32, [2]))
without("g27_block_count_missing", "block_count", "phi3.block_count")
key("g28_head_count_0", "head_count", "phi3.attention.head_count", U32, 0)
key("g28_head_count_huge", "head_count", "phi3.attention.head_count", U32, 1 << 30)
without("g28_head_count_missing", "head_count", "phi3.attention.head_count")
key("g29_head_count_3", "head_count", "phi3.attention.head_count", U32, 3)
key("g30_kv_heads_0", "head_count_kv", "phi3.attention.head_count_kv", U32, 0)
key("g30_kv_heads_4", "head_count_kv", "phi3.attention.head_count_kv", U32, 4)
key("g30_kv_heads_array", "head_count_kv", "phi3.attention.head_count_kv", ARRAY, (U32, [2, 1]))
key("g31_embedding_0", "embedding_length", "phi3.embedding_length", U32, 0)
key("g31_embedding_2_31", "embedding_length", "phi3.embedding_length", U32, 1 << 31)
key("g31_embedding_64", "", "phi3.embedding_length", U32, 64)
without("g31_embedding_missing", "embedding_length", "phi3.embedding_length")
key("g31_feed_forward_0", "feed_forward_length", "phi3.feed_forward_length", U32, 0)
key("g31_feed_forward_2_31", "feed_forward_length", "phi3.feed_forward_length", U32, 1 << 31)
key("g32_context_0", "context_length", "phi3.context_length", U32, 0)
key("g32_context_all_ones", "context_length", "phi3.context_length", U32, 0xffffffff)
key("g32_context_u64", "context_length", "phi3.context_length", U64, 1 << 40)
key("g32_original_context_0", "original_context", "phi3.rope.scaling.original_context_length", U32, 0)
key("g33_rope_odd", "rope.dimension_count", "phi3.rope.dimension_count", U32, 15)
key("g33_rope_2_31", "rope.dimension_count", "phi3.rope.dimension_count", U32, 1 << 31)
key("g33_rope_above_head", "rope.dimension_count", "phi3.rope.dimension_count", U32, 32)
for name, x in (("0", 0.0), ("negative", -1.0), ("nan", math.nan), ("inf", math.inf), ("denormal", 1e-40)):
    key(f"g34_freq_base_{name}", "freq_base", "phi3.rope.freq_base", F32, x)
for name, x in (("nan", math.nan), ("negative", -1e-5), ("inf", math.inf)):
    key(f"g35_eps_{name}", "epsilon", "phi3.attention.layer_norm_rms_epsilon", F32, x)
without("g35_eps_missing", "epsilon", "phi3.attention.layer_norm_rms_epsilon")
key("g35_eps_f64_huge", "epsilon", "phi3.attention.layer_norm_rms_epsilon", F64, 1e300)
key("g36_vocab_size", "vocab_size", "phi3.vocab_size", U32, 1000)
key("g36_vocab_size_2_31", "vocab_size", "phi3.vocab_size", U32, 1 << 31)
key("g37_window_negative", "sliding_window", "phi3.attention.sliding_window", I32, -5)
key("g37_window_string", "sliding_window", "phi3.attention.sliding_window", STRING, "x")
key("g37_attn_factor_nan", "attn_factor", "phi3.rope.scaling.attn_factor", F32, math.nan)
key("g37_attn_factor_negative", "attn_factor", "phi3.rope.scaling.attn_factor", F32, -2.0)
for name, x in (("negative", -1.0), ("nan", math.nan), ("inf", math.inf), ("tiny", 1e-38)):
    key(f"g37_scaling_factor_{name}", "rope.scaling.factor", "phi3.rope.scaling.factor", F32, x)
key("g37_scaling_type", "rope.scaling.type", "phi3.rope.scaling.type", STRING, "frobnicate")

# ---------------------------------------------------------------------------------------------- tokenizer
TOKENS, SCORES, TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"
VOCAB = len(g.vocabulary())

for name in ("bos", "eos", "unknown", "padding"):
    id_key = f"tokenizer.ggml.{name}_token_id"
    key(f"g38_{name}_beyond", f"{name}_token_id", id_key, U32, VOCAB)
    key(f"g38_{name}_all_ones", f"{name}_token_id", id_key, U32, 0xffffffff)
key("g38_eos_negative", "eos_token_id", "tokenizer.ggml.eos_token_id", I32, -2)
key("g38_eos_string", "eos_token_id", "tokenizer.ggml.eos_token_id", STRING, "</s>")
key("g38_add_bos_number", "add_bos_token", "tokenizer.ggml.add_bos_token", U32, 1)


@case("g38_add_bos_without_bos", "bos_token_id is missing", "model")
def _(m):
    m.drop("tokenizer.ggml.bos_token_id")
    m.set("tokenizer.ggml.add_bos_token", BOOL, 1)


def items(m, name):
    return m.keys[name][1][1]


@case("g39_scores_short", "scores", "model")
def _(m):
    items(m, SCORES).pop()


@case("g39_scores_long", "scores", "model")
def _(m):
    items(m, SCORES).append(0.0)


@case("g39_scores_u8", "scores", "model")
def _(m):
    m.set(SCORES, ARRAY, (U8, [0] * VOCAB))


@case("g39_scores_nan", "scores", "model")
def _(m):
    items(m, SCORES)[260] = math.nan


@case("g39_scores_inf", "scores", "model")
def _(m):
    items(m, SCORES)[260] = math.inf


without("g39_scores_missing", "scores", SCORES)


@case("g40_types_short", "token_type", "model")
def _(m):
    items(m, TYPES).pop()


@case("g40_types_f32", "token_type", "model")
def _(m):
    m.set(TYPES, ARRAY, (F32, [1.0] * VOCAB))


@case("g40_types_strings", "token_type", "model")
def _(m):
    m.set(TYPES, ARRAY, (STRING, ["1"] * VOCAB))


@case("g40_type_999", "999", "model")
def _(m):
    items(m, TYPES)[260] = 999


@case("g40_type_negative", "-1", "model")
def _(m):
    items(m, TYPES)[260] = -1


def retoken(m, texts, kinds=None):
    """Another vocabulary, with matrices that fit it."""
    count = len(texts)
    m.set(TOKENS, ARRAY, (STRING, texts))
    m.set(SCORES, ARRAY, (F32, [-float(i) for i in range(count)]))
    m.set(TYPES, ARRAY, (I32, kinds or [g.NORMAL] * count))
    for name in ("bos", "eos", "unknown", "padding"):
        m.set(f"tokenizer.ggml.{name}_token_id", U32, 0)
    for name in ("token_embd.weight", "output.weight"):
        m.tensors[name] = Tensor([g.EMBD, count], g.Noise(2).floats(g.EMBD * count, 0.1))


@case("g41_three_tokens", "token", "model")
def _(m):
    retoken(m, ["<unk>", "<s>", "</s>"], [g.UNKNOWN, g.CONTROL, g.CONTROL])


@case("g42_all_empty", "token", "model")
def _(m):
    retoken(m, [""] * 300)


@case("g42_all_equal", "token", "model")
def _(m):
    retoken(m, ["same"] * 300)


@case("g42_bad_utf8", "UTF-8", "model")
def _(m):
    items(m, TOKENS)[262] = b"\xff\xfe"


@case("g42_all_bad_utf8", "UTF-8", "model")
def _(m):
    retoken(m, [b"\xff" + bytes([65 + i % 26]) * (i // 26 + 1) for i in range(300)])


@case("g43_token_of_5_mb", "token", "model")
def _(m):
    items(m, TOKENS)[262] = "a" * (5 << 20)


@case("g43_token_of_20_mb", "limit of a string")
def _(m):
    items(m, TOKENS)[262] = "a" * (20 << 20)


@case("g44_byte_minus_one", "<0x-1>", "model")
def _(m):
    items(m, TOKENS)[3] = "<0x-1>"


@case("g44_byte_zz", "<0xZZ>", "model")
def _(m):
    items(m, TOKENS)[3] = "<0xZZ>"


@case("g44_byte_too_long", "<0x100>", "model")
def _(m):
    items(m, TOKENS)[3] = "<0x100>"


@case("g44_one_byte_missing", "byte 0xC5", "model")
def _(m):
    m.drop("tokenizer.ggml.unknown_token_id")  # with one, text without a token would become that
    items(m, TYPES)[0] = g.CONTROL
    items(m, TOKENS)[200] = "plain"
    items(m, TYPES)[200] = g.NORMAL


@case("g44_byte_twice", "", "model")
def _(m):
    items(m, TOKENS)[4] = "<0x00>"


def byte_level(m, merges):
    m.set("tokenizer.ggml.model", STRING, "gpt2")
    m.set("tokenizer.ggml.pre", STRING, "gpt-2")
    m.set("tokenizer.ggml.merges", ARRAY, merges)


@case("g45_merges_unknown_tokens", "merges", "model")
def _(m):
    byte_level(m, (STRING, ["xyzzy plugh"]))


@case("g45_merge_without_space", "merges", "model")
def _(m):
    byte_level(m, (STRING, ["nospace"]))


@case("g45_merges_numbers", "merges", "model")
def _(m):
    byte_level(m, (U32, [1, 2, 3]))


@case("g45_merges_missing", "merges", "model")
def _(m):
    m.set("tokenizer.ggml.model", STRING, "gpt2")
    m.set("tokenizer.ggml.pre", STRING, "gpt-2")


@case("g45_merges_5_million", "limit is 4194304")
def _(m):
    m.set("tokenizer.ggml.merges", ARRAY, Raw(u32(STRING) + u64(5000000) + (u64(3) + b"a b") * 5000000))


without("g46_tokens_missing", "tokenizer.ggml.tokens", TOKENS)
without("g46_tokenizer_model_missing", "tokenizer.ggml.model", "tokenizer.ggml.model")
key("g46_tokens_empty", "tokens", TOKENS, ARRAY, (STRING, []))
key("g46_tokens_numbers", "tokens", TOKENS, ARRAY, (U32, list(range(VOCAB))))
key("g46_tokens_string", "tokens", TOKENS, STRING, "abc")
key("g46_tokenizer_unknown", "frobnicate", "tokenizer.ggml.model", STRING, "frobnicate")
key("g46_pre_number", "tokenizer.ggml.pre", "tokenizer.ggml.pre", U32, 1)
key("g46_tokenizer_number", "tokenizer.ggml.model", "tokenizer.ggml.model", U32, 1)

# ---------------------------------------------------------------------------------------------- template
TEMPLATE = "tokenizer.chat_template"
key("g47_template_endless", "template", TEMPLATE, STRING, "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}",
    "template")
key("g48_template_nested", "template", TEMPLATE, STRING, "{{" + "(" * 100000 + ")" * 100000 + "}}", "template")
key("g49_template_10_mb", "template", TEMPLATE, STRING, "x" * (10 << 20), "template")
key("g50_template_raises", "template", TEMPLATE, STRING, "{{ raise_exception('no') }}", "template")
key("g51_template_bomb", "template", TEMPLATE, STRING, "{{ 'x' * 10**12 }}", "template")
key("g51_template_number", "template", TEMPLATE, U32, 5, "template")

# ---------------------------------------------------------------------------------------------- tensors
FIRST, NORM, QKV = "token_embd.weight", "blk.0.attn_norm.weight", "blk.0.attn_qkv.weight"


def shape(name, fragment, dims, tensor=QKV):
    @case(name, fragment)
    def _(m):
        m.tensors[tensor].shape = dims


shape("g52_dims_2_32_x_2_32", f"tensor '{QKV}' at offset", [1 << 32, 1 << 32])
shape("g53_dims_2_62_x_4", f"tensor '{QKV}' at offset", [1 << 62, 4])
shape("g53_dims_2_60", f"tensor '{QKV}' at offset", [1 << 60])
shape("g54_negative", "dimension 1 is -1", [32, -1])
shape("g55_zero", "dimension 0 is 0", [0, 96])
shape("g56_no_dims", "0 dimensions", [])
shape("g56_five_dims", "5 dimensions", [32, 96, 1, 1, 1])


@case("g56_dims_all_ones", "4294967295 dimensions")
def _(m):
    data = m.data()
    at = data.index(g.string(QKV)) + len(g.string(QKV))
    return data[:at] + u32(-1) + data[at + 4:]


def kind(name, fragment, number, dims=None):
    @case(name, fragment)
    def _(m):
        m.tensors[QKV].kind = number
        m.tensors[QKV].shape = dims or [32, 96]


kind("g57_type_999", "tensor type 999", 999)
kind("g57_type_4_removed", "tensor type 4", 4)
kind("g57_type_5_removed", "tensor type 5", 5)
kind("g57_type_36_removed", "tensor type 36", 36)
kind("g57_type_all_ones", "tensor type 4294967295", 0xffffffff)
kind("g57_type_i32", "I32", 26)
kind("g58_row_not_whole_blocks", "Q4_K blocks of 256", g.T_Q4_K)
kind("g58_row_not_whole_blocks_iq2_xxs", "IQ2_XXS blocks of 256", 16)
kind("g58_row_not_whole_blocks_tq1_0", "TQ1_0 blocks of 256", 34)
kind("g58_row_of_33", "Q8_0 blocks of 32", g.T_Q8_0, [33, 96])


def offset(name, fragment, at, tensor=QKV):
    @case(name, fragment)
    def _(m):
        m.tensors[tensor].offset = at


offset("g59_offset_overlap", "overlaps", 0)
offset("g59_offset_2_63", "past the end", 1 << 63)
offset("g59_offset_wraps", "past the end", -32)
offset("g59_offset_misaligned", "not aligned", 33)
offset("g59_offset_past_end", "past the end", 1 << 30)


@case("g60_duplicate_name", "twice")
def _(m):
    data = m.data()
    return data.replace(b"blk.1.attn_qkv.weight", b"blk.0.attn_qkv.weight")


def rename(m, old, new):
    m.tensors = {(new if name == old else name): tensor for name, tensor in m.tensors.items()}


case("g61_name_200", "limit is 64")(lambda m: rename(m, QKV, "n" * 200))
case("g61_name_empty", "the name is empty")(lambda m: rename(m, QKV, ""))
case("g61_name_bad_utf8", "UTF-8")(lambda m: rename(m, QKV, b"\xff\xfe"))
case("g61_name_control", "printable")(lambda m: rename(m, QKV, "a\nb"))


@case("g61_name_2_40", "1099511627776")
def _(m):
    data = m.data()
    at = data.index(g.string(QKV))
    return data[:at] + u64(1 << 40) + data[at + 8:]


for name in (FIRST, NORM, QKV, "blk.1.ffn_down.weight", "output_norm.weight"):
    fragment = name.replace("qkv.weight", "q.weight")  # the fused form is looked for first, then the split one
    case("g62_missing_" + name.replace(".", "_"), fragment, "model")(lambda m, name=name: m.tensors.pop(name) and None)


@case("g62_extra_tensor", "surprise.weight", "model")
def _(m):
    m.tensors["surprise.weight"] = Tensor([8], bytes(32))


@case("g62_extra_block", "blk.2.attn_norm.weight", "model")
def _(m):
    m.tensors["blk.2.attn_norm.weight"] = Tensor([32], bytes(128))


@case("g62_transposed", QKV, "model")
def _(m):
    m.tensors[QKV].shape = [96, 32]


@case("g62_short_norm", NORM, "model")
def _(m):
    m.tensors[NORM] = Tensor([16], bytes(64))


@case("g62_norm_quantized", NORM, "model")
def _(m):
    m.tensors[NORM] = Tensor([32], bytes(34), g.T_Q8_0)


@case("g62_embedding_rows", FIRST, "model")
def _(m):
    m.tensors[FIRST] = Tensor([32, VOCAB - 1], bytes(4 * 32 * (VOCAB - 1)))


@case("g62_three_dims", QKV, "model")
def _(m):
    m.tensors[QKV].shape = [32, 48, 2]


@case("g63_60k_tensors", "", "model")
def _(m):
    m.tensors.clear()
    m.tensor_count = 60000
    infos = b"".join(g.string(f"t{i:05d}") + u32(1) + u64(1) + u32(0) + u64(32 * i) for i in range(60000))
    head = m.head() + infos
    return head + bytes(-len(head) % 32) + bytes(32 * 60000)


@case("g63_count_one_less", "zeros")
def _(m):
    m.tensor_count = len(m.tensors) - 1


@case("g63_count_one_more", "offset")
def _(m):
    m.tensor_count = len(m.tensors) + 1


case("g63_70k_tensors", "limit is 65536")(lambda m: HEADER + u64(70000) + u64(0) + bytes(70000 * 40))


@case("g64_data_cut_by_one", "past the end")
def _(m):
    m.cut = 1


@case("g64_data_cut_by_half", "past the end")
def _(m):
    return m.data()[:len(m.data()) // 2]


@case("g64_no_data", "past the end")
def _(m):
    return m.data()[:-sum(len(t.data) for t in m.tensors.values())]


def weight(name, fragment, tensor, pattern, stage):
    @case(name, fragment, stage)
    def _(m):
        m.tensors[tensor].data = pattern * (len(m.tensors[tensor].data) // 4)


NAN, INF = struct.pack("<f", math.nan), struct.pack("<f", math.inf)
weight("g66_norm_nan", NORM, NORM, NAN, "model")
weight("g66_norm_inf", NORM, NORM, INF, "model")
weight("g66_matrix_nan", "", QKV, NAN, "weights")
weight("g66_matrix_inf", "", QKV, INF, "weights")
weight("g66_embedding_nan", "", FIRST, NAN, "weights")
weight("g66_output_nan", "", "output.weight", NAN, "weights")

key("g67_split_9999", "split.count", "split.count", U16, 9999, "file")
key("g67_split_3", "split.count", "split.count", U16, 3, "file")
key("g67_split_string", "split.count", "split.count", STRING, "two", "file")
key("g67_split_negative", "split.count", "split.count", I16, -1, "file")


@case("g67_split_part_2", "part 2 of 3")
def _(m):
    m.set("split.no", U16, 1)
    m.set("split.count", U16, 3)


@case("g67_split_no_beyond", "split")
def _(m):
    m.set("split.no", U8, 9)
    m.set("split.count", I8, 3)


def build(name):
    m = g.model()
    result = CASES[name][2](m)
    return result if isinstance(result, bytes) else m.data()


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "valid.gguf").write_bytes(g.model().data())
    manifest = {}
    for name, (stage, fragment, _) in CASES.items():
        (folder / f"{name}.gguf").write_bytes(build(name))
        manifest[f"{name}.gguf"] = {"stage": stage, "error": fragment}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{len(manifest)} files in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
