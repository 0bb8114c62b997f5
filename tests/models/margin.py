"""How sure a model is of every answer: the margin between the right token's logit and the next best."""
import torch

import questions
import vocabulary as v
from rows import IGNORE, ORIGINAL, padded


def questions_of(encoder):
    """Every conversation, and every neutral single question again under the usual system prompt."""
    for messages in questions.conversations():
        yield encoder.chat(messages)
        if len(messages) == 2:
            yield encoder.chat([{"role": "system", "content": questions.SYSTEM}, *messages])


def _batches(encoder):
    """The rows in batches of similar length, those beyond the original context alone."""
    ordered = sorted(questions_of(encoder), key=lambda row: len(row[0]))
    for start in range(0, len(ordered), 32):
        some = ordered[start:start + 32]
        beyond = [row for row in some if len(row[0]) > ORIGINAL]
        for part in ([row for row in some if len(row[0]) <= ORIGINAL], *[[row] for row in beyond]):
            if part:
                yield part


def _predictions(model, ids):
    """Greedy logits of every position: short factors within the original context, long ones beyond."""
    with torch.no_grad():
        near = model(input_ids=ids[:, :ORIGINAL], use_cache=False).logits
        if ids.shape[1] <= ORIGINAL:
            return near
        return torch.cat([near, model(input_ids=ids, use_cache=False).logits[:, ORIGINAL:]], dim=1)


def _last_answer(targets):
    """Marks the last answer's tokens: earlier ones are part of the prompt."""
    learnt = targets != IGNORE
    starts = learnt & ~torch.nn.functional.pad(learnt, (1, 0))[:, :-1]
    return learnt & (starts.cumsum(1) == starts.sum(1, keepdim=True))


def margins(model, encoder):
    """[(ids, targets, margin)] of every conversation; a margin of 0 or less is a wrong answer."""
    out = []
    for rows in _batches(encoder):
        ids, targets = padded(rows)
        logits, want = _predictions(model, ids)[:, :-1], targets[:, 1:]
        asked = _last_answer(targets)[:, 1:]
        index = want.clamp(min=0)[..., None]
        right = logits.gather(2, index)[..., 0]
        others = logits.scatter(2, index, float("-inf")).max(2).values
        least = (right - others).masked_fill(~asked, float("inf")).min(1).values
        out += [(*row, value) for row, value in zip(rows, least.tolist())]
    return out
