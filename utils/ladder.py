"""A ladder of small GPTs for lesson 21: eight sizes, trained anew on 0.5 to 2 million tokens each.

`python -m utils.ladder --corpus FOLDER` trains what is not yet trained and writes data/ladder.json.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from utils import course, pretrain, train
from utils.lessons.gpt import GPT, GPTConfig

MIX = {"stories-simple": 1}  # every text once: no run sees a window twice
BATCH, LENGTH = 16, 128
HELD_OUT = 512  # windows of held-out text that every model is scored on
SIZES = {  # layers, heads, width; only the width grows, by a root of 2, so that blocks double
    "20k": (2, 2, 28),
    "40k": (2, 2, 40),
    "75k": (2, 2, 56),
    "150k": (2, 2, 80),
    "300k": (2, 4, 112),
    "600k": (2, 4, 160),
    "1.2m": (2, 4, 224),
    "2.5m": (2, 4, 320),
}
LONGER = ("20k", "40k", "75k", "150k", "300k")  # trained on two million tokens, too
SOME = ("20k", "150k")  # trained with another seed: they show how much chance moves a point
TRIED = (
    "Rates were compared by the training loss of the last tenth of 0.5 million tokens, seed 0. "
    "2 layers of 40: 5.03, 4.83, 4.70, 4.73 at 0.006, 0.012, 0.024, 0.048. "
    "4 layers of 144: 4.31, 4.33 at 0.012, 0.024. So the rate falls with the root of the width. "
    "A ladder whose depth grew too had 1 and 2 layers of 40 as its first rungs, with losses of 4.78 and 4.81."
)


def plan():
    """The runs in the order in which they are made: (size, tokens, seed), the cheap ones first."""
    runs = [(size, tokens, 0) for tokens in (2**19, 2**20) for size in SIZES]
    return runs + [(size, 2**21, 0) for size in LONGER] + [(size, 2**19, 1) for size in SOME]


def rate_of(size):
    """The learning rate: a narrow model bears a higher one. See TRIED."""
    return round(0.024 * (40 / SIZES[size][2]) ** 0.5, 4)


def build(size, seed=0):
    """A fresh GPT of one size."""
    n_layers, n_heads, d_model = SIZES[size]
    torch.manual_seed(seed)
    shape = GPTConfig(pretrain.VOCAB_SIZE, LENGTH, n_layers, n_heads, d_model)
    return GPT(shape)


def shuffled(ids, seed):
    """`batches(step)` over the windows of an array of ids, in an order of the seed's own."""
    order = np.random.default_rng(seed).permutation((len(ids) - 1) // LENGTH)
    offsets = np.arange(LENGTH + 1)

    def batches(step):
        starts = order[(np.arange(BATCH) + step * BATCH) % len(order)] * LENGTH
        block = torch.from_numpy(ids[starts[:, None] + offsets].astype(np.int64))
        return block[:, :-1], block[:, 1:]

    return batches


def held_out(sources, tokenizer):
    """`HELD_OUT` windows from all over the texts that nothing is trained on, (HELD_OUT, LENGTH + 1)."""
    ids = np.concatenate(pretrain.encode(tokenizer, [t for name in MIX for t in sources[name]["dev"]]))
    starts = np.linspace(0, len(ids) - LENGTH - 1, HELD_OUT).astype(int)
    return torch.from_numpy(ids[starts[:, None] + np.arange(LENGTH + 1)].astype(np.int64))


@torch.no_grad()
def loss_on(model, windows, batch=16):
    """The mean loss of a model on windows (B, T + 1), in nats a token."""
    total = 0.0
    for block in windows.split(batch):
        states = model.hidden(block[:, :-1]).flatten(0, 1)
        for rows, targets in zip(states.split(512), block[:, 1:].flatten().split(512), strict=True):
            total += F.cross_entropy(model.head(rows), targets, reduction="sum").item()
    return total / windows[:, 1:].numel()


def train_one(size, tokens, seed, rate, ids, windows, folder):
    """Train one rung on `tokens` tokens with a schedule of its own; returns its row of the table."""
    model, steps = build(size, seed), tokens // (BATCH * LENGTH)
    tables = model.tokens.weight.numel() + model.positions.weight.numel()
    total = sum(p.numel() for p in model.parameters())
    fresh, began = not Path(folder).exists(), time.process_time()
    log = train.fit(model, shuffled(ids, seed), steps, folder, rate, warmup=steps // 10)
    seconds = time.process_time() - began
    last = [entry["loss"] for entry in log[-steps // 10 :]]
    return {
        "size": size,
        "config": asdict(model.config),
        "parameters": total,
        "in_blocks": total - tables,
        "tokens": tokens,
        "seed": seed,
        "rate": rate,
        "loss": round(loss_on(model, windows), 4),
        "last_training_loss": round(float(np.mean(last)), 4),
        "seconds": round(seconds, 1) if fresh else None,  # of a run that went on: unknown
    }


def write(path, rows):
    """The table and its recipe, one row a line."""
    recipe = {"mix": MIX, "batch": BATCH, "length": LENGTH, "warmup": "a tenth of the steps"}
    recipe |= {"schedule": "half a cosine to 0", "held_out_tokens": HELD_OUT * LENGTH}
    recipe |= {"optimizer": "Muon and AdamW of utils/train.py", "rate": "0.024 (40 / width) ** 0.5"}
    recipe |= {"tried": TRIED, "hardware": pretrain.hardware()}
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    with course.atomic(path) as temporary:
        temporary.write_text(f'{{"recipe": {json.dumps(recipe)},\n "rows": [\n{lines}\n]}}\n', "utf-8")


def main(arguments=None):
    """Train every run of the plan that has no row yet; the table grows by a row after each."""
    parser = argparse.ArgumentParser(prog="python -m utils.ladder", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, type=Path, help="a folder of .txt or .jsonl files")
    parser.add_argument("--state", type=Path, help="folder for checkpoints and the table so far")
    parser.add_argument("--table", type=Path, default=course.root() / "data/ladder.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="one run for a trial, such as 40k:524288:0:0.006; the table stays")
    parser.add_argument("--no-training", action="store_true", help="only write the rows of finished runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    state = options.state or course.state() / "ladder"
    sources = pretrain.read_corpus(options.corpus, MIX)
    tokenizer = pretrain.get_tokenizer(sources)
    state.mkdir(parents=True, exist_ok=True)
    ids, windows = pretrain.encoded(sources, tokenizer, MIX, state), held_out(sources, tokenizer)
    runs, rows = [(*run, rate_of(run[0])) for run in plan()], []
    if options.only:
        size, tokens, seed, rate = options.only.split(":")
        runs = [(size, int(tokens), int(seed), float(rate))]
    for size, tokens, seed, rate in runs:
        name = f"{size}-{tokens}-{seed}-{rate}"
        place = state / f"{name}.json"
        if not place.exists() and options.no_training:
            continue
        if not place.exists():
            print(time.strftime("%X"), name, flush=True)
            row = train_one(size, tokens, seed, rate, ids, windows, state / name)
            with course.atomic(place) as temporary:
                temporary.write_text(json.dumps(row), "utf-8")
        rows.append(json.loads(place.read_text("utf-8")))
        if not options.only:
            write(options.table, rows)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
