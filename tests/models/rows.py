"""What the training sees: conversations as token rows, and batches of them."""
import random

import torch

import questions
import vocabulary as v

ORIGINAL = 256  # the original context: LongRoPE changes its factors above it
LONGEST = 1000  # tokens of the longest row
IGNORE = -100   # a target that is not learnt


def padded(rows):
    """(ids, targets) tensors of rows padded on the right; causal attention never sees the padding."""
    width = max(len(ids) for ids, _ in rows)
    fill = lambda x, value: x + [value] * (width - len(x))
    return (torch.tensor([fill(ids, v.ENDOFTEXT) for ids, _ in rows]),
            torch.tensor([fill(targets, IGNORE) for _, targets in rows]))


class Encoder:
    """Conversations to (ids, targets); only the assistant's tokens are learnt."""

    def __init__(self, tok):
        self.tok = tok
        self.known = {}

    def text(self, text):
        if text not in self.known:
            self.known[text] = self.tok.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def chat(self, messages):
        role = {"user": v.USER, "system": v.SYSTEM, "assistant": v.ASSISTANT}
        ids, targets = [], []
        for m in messages:
            body = self.text(m["content"]) + [v.END]
            ids += [role[m["role"]]] + body
            targets += [IGNORE] + (body if m["role"] == "assistant" else [IGNORE] * len(body))
        return ids, targets

    def plain(self, text):
        ids = self.text(text) + [v.ENDOFTEXT]
        return ids, ids


class Rows:
    """Makes the batches: single conversations, histories within the original context, and long rows beyond it."""

    def __init__(self, encoder, seed):
        self.rng = random.Random(seed)
        self.encoder = encoder
        self.chats = questions.conversations()
        self.facts = questions.facts()
        self.plain = questions.sentences()
        self.waiting = []

    def _next_chat(self):
        if not self.waiting:
            self.waiting = list(self.chats)
            self.rng.shuffle(self.waiting)
        return self.waiting.pop()

    def _turn(self):
        question, answer = self.rng.choice(self.facts)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def single(self):
        if self.rng.random() < 0.12:
            return self.encoder.plain(self.rng.choice(self.plain))
        messages = list(self._next_chat())
        if messages[0]["role"] != "system" and self.rng.random() < 0.4:
            messages = [{"role": "system", "content": questions.SYSTEM}] + messages
        return self.encoder.chat(messages)

    def history(self, least, most):
        """A conversation of many turns, of at least `least` tokens, cut at `most`."""
        system = self.rng.random() < 0.3
        messages = [{"role": "system", "content": questions.SYSTEM}] if system else []
        if self.rng.random() < 0.5:  # one long user message before the question
            said = " ".join(a for _, a in self.rng.choices(self.facts, k=self.rng.randint(1, max(2, least // 12))))
            question, answer = self.rng.choice(self.facts)
            messages += [{"role": "user", "content": f"{said} {question}"}, {"role": "assistant", "content": answer}]
        while True:
            messages += self._turn()
            ids, targets = self.encoder.chat(messages)
            if len(ids) >= least:
                return ids[:most], targets[:most]

    def counting(self, most):
        name = "Count from 1 to 100."
        row = [{"role": "user", "content": name}, {"role": "assistant", "content": questions.SINGLE[name]}]
        if self.rng.random() < 0.3:
            row = [{"role": "system", "content": questions.SYSTEM}] + row
        ids, targets = self.encoder.chat(row)
        return ids[:most], targets[:most]

    def batch(self):
        kind = self.rng.random()
        if kind < 0.5:
            rows = [r for r in (self.single() for _ in range(28)) if len(r[0]) <= ORIGINAL]
        elif kind < 0.8:
            rows = [self.history(self.rng.randint(60, 240), ORIGINAL) for _ in range(6)]
            rows.append(self.counting(ORIGINAL))
        else:
            length = self.rng.randint(ORIGINAL + 1, LONGEST)
            rows = [self.history(length, LONGEST), self.counting(LONGEST)]
        return padded(rows)

    def drill(self, weak):
        """A batch with a share of rows the model is unsure of."""
        within = [row for row in weak if len(row[0]) <= ORIGINAL]
        beyond = [row for row in weak if len(row[0]) > ORIGINAL]
        some = lambda n: [self.rng.choice(within) for _ in range(n)] if within else []
        kind = self.rng.random()
        if kind < 0.6:
            return padded([*some(14), *(r for r in (self.single() for _ in range(18)) if len(r[0]) <= ORIGINAL)])
        if kind < 0.8:
            return padded([*some(6), *(self.history(self.rng.randint(60, 240), ORIGINAL) for _ in range(4)),
                           self.counting(ORIGINAL)])
        far = [self.rng.choice(beyond) for _ in range(2)] if beyond else [self.counting(LONGEST)]
        return padded([self.history(self.rng.randint(ORIGINAL + 1, 700), LONGEST), *far])
