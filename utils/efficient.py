"""The runs of lesson 18 that are too long for a page: data/parameter_efficient.tsv, made by its own functions.

    python -m utils.efficient                  everything, about ten minutes on one core
    python -m utils.efficient reviews gpt-1m   these models only; the other rows stay

Each row is one training: model, method, size, seed, numbers trained, rate, before, after, old before, old after.
"reviews" is MiniLM, upper two blocks, judging reviews: accuracy on the test reviews. A GPT learns to write reviews:
loss on test reviews in nats a token, and loss on stories, which it is not shown. Rates were chosen on dev (RATES).
"""

import sys

import torch
from tqdm.auto import tqdm

from utils import course, data, zoo
from utils.lessons.finetuning import Classifier, accuracy, finetune
from utils.lessons.parameter_efficient import adapt_classifier, adapt_decoder, learned, nats, tune

COLUMNS = "model", "method", "size", "seed", "numbers", "rate", "before", "after", "old before", "old after"
STEPS = {"reviews": 40, "stories": 60}
SEEDS, N_FROZEN, HEAD_RATE, LONGEST = (0, 1, 2), 4, 1e-2, 48
SMALL = {
    ("all", 0): 1e-3,
    ("LoRA", 4): 1e-2,
    ("LoRA", 1): 1e-2,
    ("adapters", 8): 1e-2,
    ("BitFit", 0): 3e-2,
    ("prompt", 20): 3e-1,
    ("prefix", 5): 1e-1,
}
RATES = {  # model: {(method, size): rate}, chosen on dev with seed 0
    "reviews": {
        ("all", 0): 5e-4,
        ("LoRA", 1): 1e-2,
        ("adapters", 8): 1e-2,
        ("BitFit", 0): 1e-2,
        ("prompt", 8): 3e-1,
        ("prefix", 8): 3e-1,
        ("head", 0): 1e-2,
    },
    "gpt-200k": SMALL,
    "gpt-1m": SMALL | {("prompt", 20): 1e-1},
    "gpt": {("all", 0): 1e-3, ("LoRA", 4): 1e-2, ("prompt", 20): 1e-1},
}


def count(model):
    """How many numbers of `model` learn."""
    return sum(p.numel() for p in learned(model))


def review_run(minilm, states, method, size, rate, seed, split="test"):
    """One training of MiniLM's upper blocks: the row behind model, method, size and seed."""
    train, held_out = (data.reviews(kind="plain", split=which) for which in ("train", split))
    texts = [row.text for row in train]
    model = adapt_classifier(Classifier(minilm, 2, seed), method, size, N_FROZEN, states, texts, seed)
    head = [model.head.weight, model.head.bias]
    rest = [p for p in learned(model) if all(p is not one for one in head)]
    groups = [{"params": head, "lr": HEAD_RATE}, {"params": rest, "lr": rate}]
    finetune(model, train, STEPS["reviews"], rate, seed, parameters=groups[: 1 + bool(rest)])
    return count(model), "", accuracy(model, held_out), "", ""


def text_rows(texts, tokenizer):
    """Texts as rows of ids between <bos> and <eos>, cut at LONGEST."""
    return [[1, *tokenizer.encode(text).ids, 2][:LONGEST] for text in texts]


def story_rows(tokenizer, n=64):
    """Stories of the kind that the zoo has read, and has not seen: the old text."""
    return text_rows([row.answer for row in data.instructions(kind="write")[:n]], tokenizer)


def text_run(name, method, size, rate, seed, split="test"):
    """One training of a GPT on reviews: the row behind model, method, size and seed."""
    model, tokenizer = zoo.load(name)
    train, held_out = (
        text_rows([row.text for row in data.reviews(split=which)], tokenizer) for which in ("train", split)
    )
    held_out, old = held_out[:: max(1, len(held_out) // 160)], story_rows(tokenizer)
    base = nats(model, held_out), nats(model, old)
    model = adapt_decoder(model, method, size, seed)
    tune(model, train, STEPS["stories"], rate, seed)
    return count(model), base[0], nats(model, held_out), base[1], nats(model, old)


def path():
    return course.data() / "parameter_efficient.tsv"


def read():
    """The table as a list of dicts, numbers as numbers, None where nothing was measured."""
    first, *lines = path().read_text(encoding="utf-8").splitlines()
    as_value = lambda text: text if text[:1].isalpha() else float(text) if text else None
    values = [[as_value(text) for text in line.split("\t")] for line in lines]
    return [dict(zip(COLUMNS, row, strict=True)) for row in values]


def runs_of(name):
    """The function (method, size, rate, seed) → what `review_run` or `text_run` returns, for one model."""
    if name != "reviews":
        return lambda *how: text_run(name, *how)
    minilm, states = zoo.sentence_encoder("minilm"), {}
    minilm.max_length = LONGEST
    return lambda *how: review_run(minilm, states, *how)


def main(names):
    """Run what is asked and write the table."""
    torch.set_num_threads(1)
    names, lines = names or list(RATES), []
    for name in names:
        run = runs_of(name)
        for (method, size), rate in tqdm(RATES[name].items(), desc=name):
            for seed in SEEDS:
                numbers, *found = run(method, size, rate, seed)
                found = [value if value == "" else f"{value:.4f}" for value in found]
                lines.append("\t".join(map(str, [name, method, size, seed, numbers, rate, *found])))
    kept = path().read_text(encoding="utf-8").splitlines()[1:] if path().exists() else []
    kept = [line for line in kept if line.split("\t")[0] not in names]
    order = list(RATES)
    lines = sorted(kept + lines, key=lambda line: order.index(line.split("\t")[0]))
    with course.atomic(path()) as temporary:
        temporary.write_text("\n".join(["\t".join(COLUMNS), *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
