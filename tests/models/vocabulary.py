"""The tiny model's vocabulary: a SentencePiece BPE with byte fallback in the exact style of Phi-3.

`build(folder)` trains the pieces on the questions and writes tokenizer.model, tokenizer.json,
tokenizer_config.json, special_tokens_map.json and added_tokens.json into the folder.
"""
import io
import json
import pathlib

import sentencepiece as spm
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

import questions

BASE = 1472        # pieces of the SentencePiece model; the added tokens follow
SIZE = BASE + 64   # rows of the embedding, as Phi-3 has 32000 and 32064
SPECIAL = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>",
           "<|placeholder4|>", "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>"]
ENDOFTEXT, ASSISTANT, SYSTEM, END, USER = (BASE + SPECIAL.index(f"<|{n}|>") for n in
                                           ("endoftext", "assistant", "system", "end", "user"))
# The chat template of Phi-3.5-mini-instruct, byte for byte.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def _corpus():
    lines = []
    for messages in questions.conversations():
        lines += [m["content"] for m in messages]
    # Characters outside Latin-1 stay out of the pieces, so that they exercise the byte fallback.
    kept = ["".join(c for c in line if ord(c) < 256) for line in lines]
    kept += ["Count from 1 to 200.", ", ".join(map(str, range(1, 201))) + "."]
    kept += [questions.SYSTEM, questions.ONE_WORD, questions.PIRATE] * 20
    return [line for text in kept for line in text.split("\n") if line.strip()]


def _train_pieces():
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()), model_writer=model, model_type="bpe", vocab_size=BASE,
        byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, add_dummy_prefix=True,
        character_coverage=1.0, num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        required_chars="".join(chr(c) for c in range(33, 127)), minloglevel=2)
    return model.getvalue()


def pieces(model):
    """[(text, score)] of a SentencePiece model, in id order."""
    p = spm.SentencePieceProcessor(model_proto=model)
    return [(p.id_to_piece(i), p.get_score(i)) for i in range(p.get_piece_size())]


def merges_of(vocab):
    """The merge list equal to 'join the adjacent pair whose joined text scores highest'.

    vocab: [(text, score)] in id order. Pairs are ranked by the score of the joined piece; pairs that
    give the same piece are ranked by the ids of their halves.
    """
    ids = {text: i for i, (text, _) in enumerate(vocab)}
    ranked = []
    for text, score in vocab:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                ranked.append((-score, ids[left], ids[right], left, right))
    ranked.sort(key=lambda m: (m[0], ids[m[3] + m[4]], m[1], m[2]))
    return [(left, right) for _, _, _, left, right in ranked]


def byte_level(text):
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def tokenizer_of(vocab, added):
    """A `tokenizers` BPE with byte fallback, as Hugging Face converts Llama-2 and Phi-3 vocabularies.

    vocab: [(text, score)] of the SentencePiece part. added: [AddedToken] in id order; those already
    in the vocabulary keep their ids.
    """
    mergeable = [(t, s) if i > 2 and not byte_level(t) else ("", 0.0) for i, (t, s) in enumerate(vocab)]
    tok = Tokenizer(models.BPE(vocab={t: i for i, (t, _) in enumerate(vocab)}, merges=merges_of(mergeable),
                               unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    for token in added:
        (tok.add_special_tokens if token.special else tok.add_tokens)([token])
    return tok


def added_tokens():
    flags = lambda rstrip, special: {"rstrip": rstrip, "normalized": False, "special": special}
    out = [AddedToken("<unk>", **flags(False, True)), AddedToken("<s>", **flags(False, True)),
           AddedToken("</s>", **flags(True, False))]
    out += [AddedToken(t, **flags(t != "<|endoftext|>", True)) for t in SPECIAL]
    return out


def build(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = _train_pieces()
    (folder / "tokenizer.model").write_bytes(model)
    tok = tokenizer_of(pieces(model), added_tokens())
    tok.save(str(folder / "tokenizer.json"))
    ids = {t.content: tok.token_to_id(t.content) for t in added_tokens()}
    assert ids["<|endoftext|>"] == ENDOFTEXT and ids["<|user|>"] == USER
    decoder = {str(ids[t.content]): {"content": t.content, "lstrip": False, "normalized": False,
                                     "rstrip": t.rstrip, "single_word": False, "special": t.special}
               for t in added_tokens()}
    config = {
        "add_bos_token": False, "add_eos_token": False, "added_tokens_decoder": decoder, "bos_token": "<s>",
        "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": "<|endoftext|>",
        "legacy": False, "model_max_length": 4096, "pad_token": "<|endoftext|>", "padding_side": "left",
        "sp_model_kwargs": {}, "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    write_json(folder / "tokenizer_config.json", config)
    plain = lambda t: {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    write_json(folder / "special_tokens_map.json", {
        "bos_token": plain("<s>"), "eos_token": plain("<|endoftext|>"),
        "pad_token": plain("<|endoftext|>"), "unk_token": plain("<unk>")})
    write_json(folder / "added_tokens.json", {t: BASE + i for i, t in enumerate(SPECIAL)})
    return tok


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
