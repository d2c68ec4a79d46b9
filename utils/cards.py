"""What a member of the zoo can do, measured on held-out text and written down beside it as card.md."""

import json
import re
import zlib

import numpy as np
import torch

from utils import objectives, pretrain, zoo
from utils.bench import table
from utils.course import atomic
from utils.lessons import bert_family, decoding, t5_and_bart
from utils.lessons.bert_family import ElectraPair

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


def parameters(model):
    """The beginning of each card: "BERT with 2,299,586 parameters"."""
    return f"{type(model).__name__} with {sum(p.numel() for p in model.parameters()):,} parameters"


def origin(name):
    """What made it, and what its text asks to be named."""
    return (
        f"`python -m utils.zoo train {name}`. Part of its training text was written by Llama 3.1 "
        "(Built with Llama) and other models; see the zoo's README."
    )


def optimizer(recipe):
    """How every member learns."""
    rest = "AdamW for the rest" + f" at {recipe.outer:g} times the rate" * (recipe.outer != 1)
    return (
        f"- Optimizer: Muon for inner matrices, {rest}, rate {recipe.rate:g}, warm-up and cosine; bf16 "
        "arithmetic, float32 weights, gradients clipped at norm 1"
    )


def growth(recipe):
    """How a member begins with what is near."""
    if recipe.objective == "spans":
        lengths = ((share, objectives.PIECE * sight) for share, sight in pretrain.SIGHTS)
        pieces = ", ".join(f"{n} tokens until {share:.0%}" for share, n in lengths if n < recipe.length)
        return f"- Pieces: {pieces} of the steps, then whole rows; a hole's neighbours are found sooner so"
    near = ", ".join(f"{sight} tokens to each side until {share:.0%}" for share, sight in pretrain.SIGHTS)
    return f"- Sight: {near} of the steps, then all; learned positions find neighbours sooner so"


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


@torch.no_grad()
def fill_in(model, ids, holes):
    """Logits (B, V) for the one token of each row ids (B, T) that is hidden, holes (B,): every family in its own way.

    Encoders read <mask>, XLNet asks a query, T5 names what its sentinel hides, BART writes the text up to the hole and
    sees <mask> in it; a decoder that looks left sees only what stands before.
    """
    each = torch.arange(len(ids))
    hidden = ids.scatter(1, holes[:, None], objectives.MASK)
    if isinstance(model, bert_family.XLNet):
        sees = torch.ones_like(ids, dtype=torch.bool).scatter(1, holes[:, None], False)
        return model(ids, sees=sees[:, None].expand(-1, ids.size(1), -1), targets=holes[:, None])[:, 0]
    if isinstance(model, t5_and_bart.T5):
        away = torch.zeros_like(ids, dtype=torch.bool).scatter(1, holes[:, None], True)
        begun = ids.new_tensor([[model.config.start, objectives.FIRST_EXTRA]]).expand(len(ids), -1)
        return model(t5_and_bart.hide(ids, away), begun)[:, 1]
    if isinstance(model, t5_and_bart.BART):
        return model(hidden, t5_and_bart.shift_right(ids, model.config.start))[each, holes]
    if hasattr(model, "new_cache"):
        return model(ids)[each, holes - 1]
    return model.head(model.hidden(hidden)[each, holes])


def held_out(tokenizer, corpus, n):
    """(source, in words, ids (n, 128)): rows of the `dev` part of each source."""
    for source, parts in pretrain.read_corpus(corpus, WORDS).items():
        yield (
            source,
            WORDS[source],
            pretrain.held_out_rows(tokenizer, parts["dev"], pretrain.RECIPES["bert"], n),
        )


def blanks(model, tokenizer, corpus, n=512):
    """Rows (source, in words, nats, right): one token of 128 is gone, in `n` held-out rows of each source."""
    for source, words, ids in held_out(tokenizer, corpus, n):
        holes = torch.randint(1, ids.size(1), (len(ids),), generator=torch.Generator().manual_seed(0))
        answers = ids[torch.arange(len(ids)), holes]
        batches = zip(ids.split(64), holes.split(64), strict=True)
        logits = torch.cat([fill_in(model, *batch) for batch in batches])
        kept = answers >= objectives.FIRST_EXTRA
        loss = torch.nn.functional.cross_entropy(logits[kept], answers[kept]).item()
        right = (logits[kept].argmax(-1) == answers[kept]).double().mean().item()
        yield source, words, f"{loss:.2f}", f"{right:.1%}"


def replaced(pair, tokenizer, corpus, n=512):
    """Rows (source, in words, found, false alarms): what ELECTRA says of a text in which its generator filled 15 %."""
    for source, words, ids in held_out(tokenizer, corpus, n):
        with torch.no_grad():
            filled, _ = bert_family.corrupt(pair, ids, torch.Generator().manual_seed(0))
            verdicts = pair.discriminator(filled) > 0
        false = filled != ids
        found, alarms = (verdicts[which].double().mean() for which in (false, ~false))
        yield source, words, f"{found:.1%}", f"{alarms:.1%}"


OWN_TASK = {
    "blanks and next sentences": "15 % blanks + does B follow A, nats",
    "blanks and sentence order": "15 % blanks + in which order do A and B stand, nats",
    "blanks": "15 % blanks, nats",
    "replaced tokens": "the generator's nats + 50 × the discriminator's",
    "permuted": "the last sixth of a random order, nats",
    "following": "the next token, nats",
    "spans": "the tokens in the holes, nats",
    "noise": "the text before the noise, nats",
    "imitation": "5 × the teacher's guesses + 2 × blanks + the angle between states",
    "pairs": "which of 128 second sentences belongs to mine, cosines × 20, both ways, nats",
}


def write_relative(name, corpus):
    """Measure a member of the family comparison (lessons 09 to 14) and write its card."""
    model, tokenizer = zoo.load(name)
    source = name.removesuffix("-generator")
    recipe, folder = pretrain.RECIPES[source], zoo.FOLDER / name
    run = json.loads((zoo.FOLDER / source / "log.json").read_text(encoding="utf-8"))
    curve = [
        (e["step"], e["loss"], *(e[s] for s in pretrain.WATCHED))
        for e in run["log"]
        if pretrain.WATCHED[0] in e
    ]
    last = dict(zip(("step", "loss", *pretrain.WATCHED), curve[-1], strict=True))
    if name == "electra":
        pair = ElectraPair()
        pair.discriminator.load_state_dict(model.state_dict())
        pair.generator.load_state_dict(zoo.load("electra-generator")[0].state_dict())
        columns, rows = ("found", "false alarms"), replaced(pair.eval(), tokenizer, corpus)
        asked = "Its generator fills 15 % of the tokens; which of them does it find, which true ones does it doubt?"
    else:
        columns, rows = ("nats", "right"), blanks(model, tokenizer, corpus)
        asked = (
            "One token of 128 is gone (a decoder that only looks left sees what stands before): is it found?"
        )
    parts = [
        f"# {name}",
        f"{parameters(model)}, made by {origin(source)}",
        "## How it was made",
        f"- Shape: `{model.config}`",
        f"- Task: {recipe.objective} ({OWN_TASK[recipe.objective]})"
        + (f"; it learns from `{recipe.parent}`" if recipe.parent else ""),
        f"- Text: the mix of `gpt`, the first {run['tokens']:,} tokens of it, in {run['steps']:,} steps of "
        f"{recipe.batch} × {recipe.length}, the same for every family",
        *([growth(recipe)] * recipe.grows),
        optimizer(recipe),
        f"- Time: {run['seconds'] / 60:.0f} minutes on {run['hardware']}",
        "- Stored in float16. Its own task on a held-out part, float32 before and float16 after: "
        + "; ".join(f"{s} {last[s]:.4f}, {run['stored'][s]:.4f}" for s in pretrain.WATCHED),
        "## Learning curve",
        f"Its own task: {OWN_TASK[recipe.objective]}. Training loss of one batch, and 64 held-out rows of each source.",
        table(("step", "loss", *pretrain.WATCHED), curve),
        "## Held-out measures",
        asked,
        table(("source", "what it is", *columns), rows),
        "## Limits",
        "One run, one seed; far smaller and far less trained than the published model of its family. It knows simple "
        "English and little of the world. Not for any use but learning.",
    ]
    put(folder, parts)


def put(folder, parts):
    """Write a card's paragraphs and tables into the folder of its member."""
    with atomic(folder / "card.md") as path:
        path.write_text("\n\n".join(map(str.strip, parts)) + "\n", encoding="utf-8")
    print(f"{folder / 'card.md'} is written.")


SAME = ("paraphrases", "splits", "gists", "neighbours")  # kinds of pairs of which some were held out


@torch.no_grad()
def partners(encoder, kinds, n=500):
    """{kind: (how many, share)} of pairs: how often the partner is the nearest of all second sentences."""
    found = {}
    for kind in SAME:
        kept = [pair for pair in dict.fromkeys(kinds[kind]) if pair[0] != pair[1]]
        first, second = zip(*kept[:: max(1, len(kept) // n)][:n], strict=True)
        cosines = torch.nn.functional.normalize(encoder.encode(first), dim=-1)
        cosines = cosines @ torch.nn.functional.normalize(encoder.encode(second), dim=-1).T
        nearest = (cosines.argmax(1) == torch.arange(len(cosines))).double().mean().item()
        found[kind] = len(cosines), f"{nearest:.1%}"
    return found


class SharedWords:
    """Counts words and knows nothing: what an encoder has to beat. The cosine of two such vectors is their overlap."""

    def encode(self, sentences):
        """1 for each of 65,536 hashed words that is there: (n, 65536)."""
        table = torch.zeros(len(sentences), 2**16)
        for row, sentence in zip(table, sentences, strict=True):
            row[[zlib.crc32(word.encode()) % 2**16 for word in re.findall(r"\w+", sentence.lower())]] = 1
        return table


def write_sentences(name, corpus):
    """Measure the member that was trained on pairs of sentences, beside its parent, and write its card."""
    recipe, folder = pretrain.RECIPES[name], zoo.FOLDER / name
    run = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    curve = [(e["step"], e["loss"], e["sts-open"]) for e in run["log"] if "sts-open" in e]
    encoders = {"shared words": SharedWords()}
    encoders |= {member: zoo.sentence_encoder(member) for member in (recipe.parent, name)}
    encoders["MiniLM (published)"] = zoo.sentence_encoder("minilm")
    model = encoders[name].model
    sources = ("", "images", "headlines", "postediting")
    scored = [
        (who, *(f"{pretrain.sts_correlation(encoder, corpus, source):.3f}" for source in sources))
        for who, encoder in encoders.items()
    ]
    held_out = pretrain.sentence_pairs(corpus, "dev")
    found = {who: partners(encoder, held_out) for who, encoder in encoders.items()}
    sizes = [f"{kind} ({n})" for kind, (n, _) in found[name].items()]
    shares = ", ".join(f"{kind} {share}" for kind, share in pretrain.PAIRS.items())
    parts = [
        f"# {name}",
        f"{parameters(model)} that makes a vector of a sentence: the mean of its states. Made by {origin(name)}",
        "## How it was made",
        f"- Shape: `{model.config}`, every weight from `{recipe.parent}`",
        f"- Task: {recipe.objective} ({OWN_TASK[recipe.objective]})",
        f"- Text: {run['pairs']:,} pairs, {recipe.batch} of one kind at a step, {run['steps']:,} steps; kinds drawn "
        f"in the ratio {shares}",
        optimizer(recipe),
        f"- Time: {run['seconds'] / 60:.0f} minutes on {run['hardware']}",
        f"- Stored in float16. sts-open, float32 before and float16 after: {curve[-1][-1]:.4f}, "
        f"{run['stored']['sts-open']:.4f}",
        "## Learning curve",
        "Training loss of one batch (high for words and for neighbours, near 0 for splits), and Spearman's "
        "correlation with people's scores of the held-out pairs of sts-open.",
        table(("step", "loss", "sts-open"), curve),
        "## Held-out measures",
        "Spearman's correlation of cosines with people's scores on the held-out pairs of sts-open, all and by source. "
        "They were watched while it learned; other pairs of these sources, scored 4 or more, were among its pairs. The "
        "first row counts shared words and knows no meaning: what an encoder scores above it is what it has learned.",
        table(("encoder", "all", *sources[1:]), scored),
        "Is the partner the nearest among all the second sentences of its kind? (In brackets: how many there are.)",
        table(("encoder", *sizes), [(who, *(s for _, s in row.values())) for who, row in found.items()]),
        "## Limits",
        "One run, one seed; a tenth of MiniLM's parameters and a tiny part of its pairs. It was taught which sentences "
        "go together, not who did what to whom, nor what *not* does. Not for any use but learning.",
    ]
    put(folder, parts)


def write(name, corpus):
    """Measure the zoo's member `name` and write data/zoo/<name>/card.md."""
    if pretrain.RECIPES[name].objective == "pairs":
        return write_sentences(name, corpus)
    if pretrain.RECIPES[name].objective:
        for member in [name, *(["electra-generator"] if name == "electra" else [])]:
            write_relative(member, corpus)
        return
    model, tokenizer = zoo.load(name)
    recipe, folder = pretrain.RECIPES[name], zoo.FOLDER / name
    run = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    scored = [entry for entry in run["log"] if any(source in entry for source in pretrain.WATCHED)]
    curve = [(e["step"], e["loss"], *(e.get(s, "") for s in pretrain.WATCHED)) for e in scored]
    last = scored[-1]
    stored = {s: run["stored"][s] for s in pretrain.WATCHED if s in run["stored"]}
    pairs = [(task, *grammar(model, tokenizer, corpus, task)) for task in ("blimp", "zorro")]
    mix = ", ".join(f"{source} × {times:g}" for source, times in recipe.mix.items())
    parts = [
        f"# {name}",
        f"{parameters(model)}, made by {origin(name)}",
        "## How it was made",
        f"- Shape: `{model.config}`",
        f"- Text: {mix}, shuffled; of this the first {run['tokens']:,} tokens, in {run['steps']:,} steps of "
        f"{recipe.batch} × {recipe.length}",
        optimizer(recipe),
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
    put(folder, parts)


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
