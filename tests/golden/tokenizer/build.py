"""Reference tokenizers of the `tokenizers` package, built from the vocabulary inside a GGUF file."""
import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

KINDS = gguf.TokenType


def _fields(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(str(path)).fields.items()
            if name.startswith("tokenizer.")}


def _merges(texts, scores, types):
    """Merge ranks equal to 'join the adjacent pair whose joined text scores highest'."""
    ids = {t: i for i, t in enumerate(texts) if types[i] == KINDS.NORMAL}
    ranked = []
    for text, i in ids.items():
        for cut in range(1, len(text)):
            left, right = ids.get(text[:cut]), ids.get(text[cut:])
            if left is not None and right is not None:
                ranked.append((-scores[i], i, left, right))
    return [(texts[left], texts[right]) for _, _, left, right in sorted(ranked)]


def sentencepiece(path, special):
    """A Llama-2 or Phi-3 vocabulary: BPE by scores with byte fallback, and Phi's right-stripping role tokens.

    special: whether control tokens in the text are recognised.
    """
    f = _fields(path)
    texts, scores, types = (f[f"tokenizer.ggml.{n}"] for n in ("tokens", "scores", "token_type"))
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(texts)}, merges=_merges(texts, scores, types),
                               unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    if special:
        for text, kind in zip(texts, types):
            if kind in (KINDS.CONTROL, KINDS.USER_DEFINED):
                control = kind == KINDS.CONTROL
                token = AddedToken(text, special=control, normalized=False,
                                   rstrip=text not in ("<unk>", "<s>", "<|endoftext|>"))
                (tok.add_special_tokens if control else tok.add_tokens)([token])
    return tok


def byte_level(path, special):
    """SmolLM2: single digits first, then the GPT-2 expression on bytes."""
    f = _fields(path)
    texts, types, merges = (f[f"tokenizer.ggml.{n}"] for n in ("tokens", "token_type", "merges"))
    assert f["tokenizer.ggml.pre"] == "smollm"
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(texts)},
                               merges=[tuple(m.split(" ")) for m in merges]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    if special:
        tok.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                for t, kind in zip(texts, types) if kind == KINDS.CONTROL])
    return tok


def ids(tok, texts):
    return [e.ids for e in tok.encode_batch(texts, add_special_tokens=False)]
