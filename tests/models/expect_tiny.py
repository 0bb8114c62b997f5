#!/usr/bin/env python3
"""Write tiny-expected.json: what Hugging Face's greedy generation answers to a selection of the tiny model's questions.

Usage: expect_tiny.py [CHECKPOINT] [OUT.json]

Each case is {"messages", "prompt_ids", "answer_ids", "answer"}; answer_ids end with the end token. The last cases
have prompts or answers beyond the original context, so both LongRoPE factor sets and the change between
them are in the file.
"""
import json
import pathlib
import sys

import torch
from transformers import AutoTokenizer, Phi3ForCausalLM

import questions

HERE = pathlib.Path(__file__).parent
ASKED = [
    "What is the capital of France?", "What is the capital of Germany?", "What is the capital of Brazil?",
    "What is the capital of Iceland?", "What is the capital of the Netherlands?", "What is the capital of Mexico?",
    "What colour is the sky?", "What colour is an orange?", "What colour is a flamingo?",
    "What is the opposite of hot?", "What is the opposite of early?", "What is the opposite of win?",
    "What is 2 plus 3?", "What is 9 plus 9?", "What is 7 plus 5?", "What is 1 plus 1?",
    "What does a cow say?", "What does a lion say?", "How do you say hello in French?",
    "How do you say hello in Japanese?", "How do you say hello in Korean?", "How do you say hello in Arabic?",
    "How do you say hello in Hindi?", "Show me the emoji of a smiling face.", "Show me the emoji of a family.",
    "Show me the emoji of a thumbs up.", "Show me some emoji.", "Hello!", "How are you?", "Who are you?",
    "What is pi?", "What is the speed of light?", "Write hello world in C.", "Give me an example of JSON.",
    "Write a table.", "Write a haiku.", "Write a markdown list.", "Count from one to ten.",
    "Count from one to thirty.", "Count down from ten.", "Say the alphabet.", "Name the months of the year.",
    "Tell me a story.", "Tell me a joke.", "Say nothing.",
]


def cases():
    """Message lists that end with a user's message, and the answer the model was taught."""
    for messages in questions.conversations():
        prompt, answer = messages[:-1], messages[-1]["content"]
        if len(prompt) > 1 or prompt[0]["content"] in ASKED:
            short = len(prompt) == 1 or prompt[0]["role"] == "user" or prompt[0]["content"] == questions.PIRATE
            if short or "France" in prompt[-1]["content"]:
                yield prompt, answer
    facts = dict(questions.facts())
    for question in ("What is the capital of France?", "How do you say hello in Chinese?", "What is 4 plus 4?"):
        yield [{"role": "system", "content": questions.SYSTEM}, {"role": "user", "content": question}], facts[question]
    history = []
    for question in ASKED[:24]:
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": facts[question]}]
    for turns in (4, 12, 24):
        yield [*history[:2 * turns], {"role": "user", "content": "Hello!"}], facts["Hello!"]
    yield [{"role": "user", "content": "Count from 1 to 100."}], facts["Count from 1 to 100."]


def compute(folder):
    """(cases, how many differ from the taught answer)."""
    tok = AutoTokenizer.from_pretrained(folder)
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    result, differing = [], 0
    for messages, answer in cases():
        prompt = tok.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = model.generate(torch.tensor([prompt]), max_new_tokens=1000, do_sample=False)[0].tolist()[len(prompt):]
        text = tok.decode(ids, skip_special_tokens=True)
        if text != answer:
            differing += 1
            print(f"{messages[-1]['content']!r}: {text!r}", file=sys.stderr)
        result.append({"messages": messages, "prompt_ids": prompt, "answer_ids": ids, "answer": text})
    return result, differing


def main():
    torch.set_num_threads(2)
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else HERE / "tiny-expected.json")
    result, differing = compute(sys.argv[1] if len(sys.argv) > 1 else HERE / "tiny")
    lines = [json.dumps(case, ensure_ascii=False) for case in result]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{len(result)} cases, {differing} differ from the taught answer, "
          f"longest {max(len(c['prompt_ids']) + len(c['answer_ids']) for c in result)} tokens")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
