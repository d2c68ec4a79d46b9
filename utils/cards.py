"""What a member of the zoo can do, measured on held-out text and written down beside it as card.md."""

import json

import numpy as np
import torch

from utils import pretrain, zoo
from utils.bench import table
from utils.course import atomic
from utils.lessons import decoding

PROMPTS = (
    "Once upon a time there was an adventurous dog",
    "Dogs are a type of mammal who have lived with humans for years",
    "The old woman opened the little box and",
    "Water boils when",
    '"Where are you going?" asked the fox.',
)
WORDS = {
    "stories-simple": "short stories in simple English",
    "stories-wider": "longer and richer stories",
    "expository-modern": "modern explanatory prose",
    "childrens-books": "children's books out of copyright",
    "formal-classics": "novels and essays of 1700 to 1930 (never trained on)",
}


def heldout(model, tokenizer, corpus):
    """Rows (source, in words, bits per byte, perplexity a token) over the whole `dev` part of each source."""
    for source, parts in pretrain.read_corpus(corpus, WORDS).items():
        bits, perplexity = pretrain.bits_per_byte(model, tokenizer, parts["dev"])
        yield source, WORDS[source], f"{bits:.3f}", f"{perplexity:.1f}"


def grammar(model, tokenizer, corpus, name):
    """Accuracy on the minimal pairs of BLiMP or Zorro: the mean over paradigms, and its lowest and highest."""
    groups = pretrain.pairs(corpus, name).values()
    scores = [pretrain.pair_accuracy(model, tokenizer, pairs) for pairs in groups]
    return f"{sum(scores) / len(scores):.3f}", f"{min(scores):.2f} to {max(scores):.2f}", len(scores)


def recompute(model, ids, n_new, seed=0):
    """Draw n_new tokens from a model without a cache, reading the whole text anew for each."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_new):
        token = decoding.draw(model(ids)[:, -1], generator)
        ids = torch.cat([ids, token[:, None]], dim=1)
    return ids


def decoders(model, seed=0):
    """The ways to continue a text that the card shows: name → function of ids (B, T)."""
    if not hasattr(model, "new_cache"):
        return {"sampled, T = 1": lambda ids: recompute(model, ids, 80, seed)}

    def chance(*processors):
        generator = torch.Generator().manual_seed(seed)
        return lambda ids: decoding.sample(model, ids, 80, processors, generator, eos=2)

    return {
        "greedy": lambda ids: decoding.greedy(model, ids, 80, eos=2),
        "beam 4": lambda ids: decoding.beam_search(model, ids, 80, n_beams=4, eos=2)[0][:, 0],
        "top-p 0.9": chance(decoding.top_p(0.9)),
        "T = 1.5": chance(decoding.temperature(1.5)),
    }


def samples(model, tokenizer, seed=0):
    """Markdown: every prompt continued in every way, the first result, unedited."""
    ways = decoders(model, seed)
    for prompt in PROMPTS:
        yield f"**{prompt}**\n"
        for name, way in ways.items():
            ids = torch.tensor([[tokenizer.token_to_id("<bos>"), *tokenizer.encode(prompt).ids]])
            with torch.no_grad():
                written = [i for i in way(ids)[0, ids.size(1) :].tolist() if i]
            text = (
                tokenizer.decode(written, skip_special_tokens=False)
                .replace("<eos>", " ∎")
                .replace("\n", " ↵ ")
            )
            yield f"- *{name}:* {text.strip()}"
        yield ""


def repetition_table(model, tokenizer, seed=0):
    """Rows (decoder, share of repeated 4-grams, distinct bigrams) over 32 texts of 80 tokens from <bos> alone."""
    ids = torch.full((32, 1), tokenizer.token_to_id("<bos>"))
    for name, way in decoders(model, seed).items():
        if name.startswith(("top-p", "T =", "sampled")):
            texts = [[i for i in row if i] for row in way(ids)[:, 1:].tolist()]
            yield name, f"{decoding.repetition(texts):.3f}", f"{decoding.distinct_n(texts):.3f}"


def write(name, corpus):
    """Measure the zoo's member `name` and write data/zoo/<name>/card.md."""
    model, tokenizer = zoo.load(name)
    recipe, folder = pretrain.RECIPES[name], zoo.FOLDER / name
    run = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    scored = [entry for entry in run["log"] if any(source in entry for source in pretrain.WATCHED)]
    curve = [(e["step"], e["loss"], *(e.get(s, "") for s in pretrain.WATCHED)) for e in scored]
    last = scored[-1]
    stored = {s: run["stored"][s] for s in pretrain.WATCHED if s in run["stored"]}
    pairs = [(task, *grammar(model, tokenizer, corpus, task)) for task in ("blimp", "zorro")]
    n_parameters = sum(p.numel() for p in model.parameters())
    mix = ", ".join(f"{source} × {times:g}" for source, times in recipe.mix.items())
    parts = [
        f"# {name}",
        f"A {type(model).__name__} of {n_parameters:,} parameters, made by `python -m utils.zoo train {name}`. "
        "Part of its training text was written by Llama 3.1 (Built with Llama) and other models; see the zoo's README.",
        "## How it was made",
        f"- Shape: `{model.config}`",
        f"- Text: {mix}, shuffled; of this the first {run['tokens']:,} tokens, in {run['steps']:,} steps of "
        f"{recipe.batch} × {recipe.length}",
        f"- Optimizer: Muon for inner matrices, AdamW for the rest, rate {recipe.rate:g}, warm-up and cosine; bf16 "
        "arithmetic, float32 weights, gradients clipped at norm 1",
        f"- Time: {run['seconds'] / 3600:.2f} hours on {run['hardware']}",
        "- Stored in float16. Bits per byte on a held-out part, float32 before and float16 after: "
        + "; ".join(f"{s} {last[s]:.4f}, {stored[s]:.4f}" for s in stored),
        "## Learning curve",
        "Training loss in nats a token (one batch), and bits per byte on 40 held-out documents of each source.",
        table(("step", "loss", *pretrain.WATCHED), curve),
        "## Held-out measures",
        "Each document is read as `<bos>` text `<eos>`; long ones in windows that overlap by half.",
        table(("source", "what it is", "bits per byte", "perplexity"), heldout(model, tokenizer, corpus)),
        "Minimal pairs: how often the grammatical sentence is the likelier one (chance is 0.5).",
        table(("set", "mean", "paradigms from … to", "paradigms"), pairs),
        "Repetition of 32 sampled texts of 80 tokens: share of 4-grams that stood before, and distinct bigrams.",
        table(("decoder", "repeated", "distinct"), repetition_table(model, tokenizer)),
        *([recipe.tried] if recipe.tried else []),
        "## Limits",
        "It knows simple English and little of the world: what it states as fact is often wrong. It has a window of a "
        "few hundred tokens, forgets names within a page, and repeats the morals and names of its corpus. Not for "
        "any use but learning.",
        "## Samples, unedited",
        "The first result of each decoder, seed 0; ↵ is a new line, ∎ the end.",
        "\n".join(samples(model, tokenizer)),
    ]
    with atomic(folder / "card.md") as path:
        path.write_text("\n\n".join(map(str.strip, parts)) + "\n", encoding="utf-8")
    print(f"{folder / 'card.md'} is written.")


def write_reference(corpus, n_texts=32, n_prompt=7, n_new=80):
    """Measure held-out stories as lesson 07 measures what decoders write; the mean over groups of `n_texts`.

    Writes data/decoding_reference.json: numbers only, none of the text.
    """
    model, tokenizer = zoo.load("gpt")
    texts = pretrain.read_corpus(corpus, ["stories-simple"])["stories-simple"]["dev"]
    rows = [
        ids[: n_prompt + n_new] for ids in pretrain.encode(tokenizer, texts) if len(ids) > n_prompt + n_new
    ]
    groups = torch.from_numpy(np.stack(rows[: len(rows) // n_texts * n_texts])).long().split(n_texts)
    with torch.no_grad():
        found = [decoding.measure(model, group, n_prompt) for group in groups]
    numbers = {key: round(sum(row[key] for row in found) / len(found), 4) for key in found[0]}
    numbers |= {"groups": len(groups), "texts_in_a_group": n_texts, "tokens_of_a_text": n_new}
    with atomic(zoo.FOLDER.parent / "decoding_reference.json") as path:
        path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    print(numbers)
