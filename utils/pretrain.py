"""How the zoo was made: the corpus, the tokenizer, the recipes, the measures. Used through `python -m utils.zoo`."""

import hashlib
import json
import lzma
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from utils import course
from utils.lessons.bert_family import ElectraPair
from utils.objectives import OBJECTIVES

SPECIALS = [
    "<pad>",
    "<bos>",
    "<eos>",
    "<mask>",
    "<sep>",
    "<cls>",
    "<unk>",
    *(f"<extra_{i}>" for i in range(64)),
]
VOCAB_SIZE = 6144
WATCHED = ("stories-simple", "expository-modern")  # held-out parts of these are scored while training
STORIES = {"stories-simple": 4, "stories-wider": 1, "expository-modern": 2, "childrens-books": 0.5}


@dataclass(frozen=True)
class Recipe:
    """What `train` needs to make one member of the zoo: its shape, its data and how long it learns."""

    family: str
    shape: dict
    steps: int
    mix: dict = field(default_factory=lambda: dict(STORIES))
    batch: int = 16
    length: int = 512
    rate: float = 6e-3
    outer: float = 1  # how many times this rate embeddings, norms and biases learn at
    objective: str = (
        ""  # of utils.objectives; "" = each token from those before it, in windows one token apart
    )
    head: str = ""  # of the family, where it has several
    grows: bool = False  # its sight: it begins with what is near, see `rows`
    parent: str = ""  # the member that it starts from, or learns from
    tried: str = ""  # Markdown for the card: what was tried before, with its figures


TRIED = """
## What was tried before

Every trial on one processor core with AMX, held-out bits per byte on stories-simple and expository-modern.

| question | trial | found |
| --- | --- | --- |
| optimizer | AdamW, rate 2e-3, 2.5 M tokens in windows of 256 | 1.739, 2.267 |
| | Muon for inner matrices, rate 4e-3, the same tokens | 1.305, 1.882 |
| | Muon, rate 1e-2, stopped after half of them | training loss within 0.02 nats of rate 4e-3 |
| vocabulary | 4,096 tokens | 3.74 and 3.46 bytes a token |
| | 6,144 tokens | 3.99 and 3.84 bytes a token |
| | 8,192 tokens | 4.14 and 4.08 bytes a token |
| shape | 6 layers of 256, 8 heads, 5.9 M parameters, vocabulary 4,096 | 5,600 tokens a second |
| | 8 layers of 256, 4 heads, 7.4 M parameters | 5,700 |
| | 5 layers of 320, 5 heads, 7.6 M parameters | 6,700 |
| | 4 layers of 384, 6 heads, 8.8 M parameters | 6,600 |

The mix was not searched. The first one was 4.5, 0.5, 0.6 and 0.25 passes over stories-simple, stories-wider,
expository-modern and childrens-books. After 20.5 M tokens its articles made no sense, so prose was given more.
Scores before step 2,250 were of other held-out documents; the learning curve leaves them out.
"""

TRIED_T5 = """
## What was tried before

At the rate of the other families this T5 learned to write spans without reading: after all 5,200 steps the holes of
another text cost it 4.39 nats a token, those of the text that it was given 4.32. Trials of 500 and 1,000 steps, on
held-out rows: nats of the first token of each hole, and the same when it was given another text to read. Smaller
embeddings at the start are no cure; faster embeddings, norms and biases (all positions are biases here) are.

| text | steps | rate of embeddings, norms and biases | own text | another text |
| --- | --- | --- | --- | --- |
| pieces of 16 tokens | 500 | 3e-3 | 6.58 | 6.76 |
| | 500 | 1e-2, matrices too | 6.65 | 6.75 |
| | 500 | 3e-2 | 5.61 | 7.85 |
| | 500 | 9e-2 | 5.47 | 8.22 |
| | 500 | 3e-3, embeddings drawn with deviation 0.05 | 6.69 | 7.00 |
| | 500 | 3e-3, the same, biases of distances 3e-2 | 6.37 | 7.24 |
| | 500 | 9e-3, the same | 5.88 | 7.65 |
| 128 tokens | 500 | 3e-2 | 6.82 | 6.85 |
| pieces that grow to 128, the holes of 128 asked | 1,000 | 3e-2 | 5.90 | 8.43 |
| | 1,000 | 9e-2 | 5.67 | 9.01 |

At 9e-2 the whole run of 5,200 steps ended at 4.02 nats on stories-simple and 4.47 on expository-modern: biases had
grown to 37, and such attention hardly learns anything else afterwards.
"""


def relative(family, objective, head, **more):
    """A recipe of lessons 09 to 14: same text, steps and width; what differs is the family."""
    return Recipe(
        family,
        {},
        steps=FAMILY_STEPS,
        batch=32,
        length=128,
        rate=3e-3,
        objective=objective,
        head=head,
        **more,
    )


FAMILY_STEPS = 5200
RECIPES = {
    "gpt": Recipe("gpt2", {"n_layers": 5, "n_heads": 5, "d_model": 320}, steps=5200, tried=TRIED),
    "gpt-1m": Recipe("gpt2", {"n_layers": 3, "n_heads": 2, "d_model": 112}, steps=5200),
    "gpt-200k": Recipe("gpt2", {"n_layers": 2, "n_heads": 2, "d_model": 28}, steps=5200),
    "lstm": Recipe("lstm", {"n_layers": 2, "d_model": 512}, steps=5200, batch=32, length=256),
    "bert": relative("bert", "blanks and next sentences", "pretraining", grows=True),
    "roberta": relative("roberta", "blanks", "masked", grows=True),
    "albert": relative("albert", "blanks and sentence order", "pretraining", grows=True),
    "electra": relative("electra", "replaced tokens", "replaced", grows=True),
    "xlnet": relative("xlnet", "permuted", "language"),
    "llama": relative("llama", "following", "language"),
    "t5": relative("t5", "spans", "language", grows=True, outer=10, tried=TRIED_T5),
    "bart": relative("bart", "noise", "language"),
    "distilbert": relative("distilbert", "imitation", "masked", parent="bert"),
    "sbert": Recipe(
        "bert", {}, steps=1500, batch=128, length=128, rate=1e-3, objective="pairs", parent="bert"
    ),
}


def read_corpus(folder, names=None):
    """All documents of a folder, as {name of the file: {"train": [texts], "dev": [texts]}}.

    A folder holds .txt files (one document each) and .jsonl files (a "text" in each line, and perhaps a "split");
    either may be packed as .xz. Where no split is named, every 50th document is held out.
    """
    sources = {}
    for path in sorted(Path(folder).iterdir()):
        name, *endings = path.name.split(".")
        if endings[:1] not in (["txt"], ["jsonl"]) or (names is not None and name not in names):
            continue
        opened = lzma.open if endings[-1] == "xz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file] if endings[0] == "jsonl" else [{"text": file.read()}]
        parts = sources[name] = {"train": [], "dev": []}
        for number, row in enumerate(row for row in rows if row.get("text")):
            parts[row.get("split", "dev" if number % 50 == 49 else "train")].append(row["text"])
    if not sources:
        wanted = f" named {', '.join(names)}" if names else ""
        raise SystemExit(
            f"No .txt or .jsonl file{wanted} in {folder}: give --corpus a folder that holds some."
        )
    return sources


def train_tokenizer(sources, vocab_size=VOCAB_SIZE, seed=0):
    """A byte-level BPE tokenizer of `vocab_size` tokens, the special ones first, trained on a sample of each source."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    rng = np.random.default_rng(seed)
    shares = {"stories-simple": 1.0, "stories-wider": 0.3, "expository-modern": 0.4, "childrens-books": 0.2}
    texts = []
    for name, parts in sources.items():
        train = parts["train"]
        texts += [
            train[i] for i in rng.permutation(len(train))[: math.ceil(shares.get(name, 1.0) * len(train))]
        ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIALS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer, texts):
    """Each text as an array of ids with <bos> before and <eos> after it."""
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    return [np.array([bos, *e.ids, eos], dtype=np.uint16) for e in tokenizer.encode_batch(texts)]


def stream(documents, mix, seed=0):
    """One long array of ids: each source as often as `mix` says, all documents shuffled.

    A fraction takes a random part of the source.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for name, times in mix.items():
        for turn in range(math.ceil(times)):
            share = min(1, times - turn)
            chosen += [
                documents[name][i]
                for i in rng.permutation(len(documents[name]))[: round(share * len(documents[name]))]
            ]
    return np.concatenate([chosen[i] for i in rng.permutation(len(chosen))])


def windows(ids, batch, length):
    """`batches(step)` over an array of ids: (inputs, targets), each (batch, length), round and round."""
    total = (len(ids) - 1) // length
    offsets = np.arange(length + 1)

    def batches(step):
        rows = (np.arange(batch) + step * batch) % total
        block = torch.from_numpy(ids[rows[:, None] * length + offsets].astype(np.int64))
        return block[:, :-1], block[:, 1:]

    return batches


SIGHTS = ((0.2, 4), (0.35, 8), (0.5, 16), (0.65, 32))  # until which share of the steps how far is seen


def rows(ids, batch, length, steps=0):
    """`batches(step)` over an array of ids: (rows,), (batch, length), round and round.

    Where `steps` is given, (rows, sight): the first of that many steps see only what is near. Learned positions find
    their neighbours ten times sooner that way: among 128 tokens, a neighbour's share of untrained attention is 1/128.
    """
    inputs = windows(ids, batch, length)
    if not steps:
        return lambda step: inputs(step)[:1]

    def batches(step):
        sight = next((sight for share, sight in SIGHTS if step < share * steps), length)
        return inputs(step)[0], torch.full((batch,), sight)

    return batches


@torch.no_grad()
def nats(model, documents, length=None, batch=16):
    """Summed -log p of every token after the first of each document, in nats.

    A document longer than the model's window is read in windows that overlap by half; only the tokens that no earlier
    window has scored count, so each has at least half a window before it.
    """
    length = length or getattr(model.config, "n_positions", 512)
    device, jobs = next(model.parameters()).device, []
    for ids in documents:
        first = 0
        for start in range(0, max(1, len(ids) - 1 - length // 2), length // 2):
            jobs.append((ids[start : start + length + 1], first - start))
            first = start + len(jobs[-1][0]) - 1
            if first >= len(ids) - 1:
                break
    jobs.sort(key=lambda job: len(job[0]))
    total = 0.0
    for i in range(0, len(jobs), batch):
        part = jobs[i : i + batch]
        block = np.zeros((len(part), len(part[-1][0])), dtype=np.int64)
        scored = np.zeros(block.shape, dtype=bool)
        for row, (ids, skip) in enumerate(part):
            block[row, : len(ids)] = ids
            scored[row, skip + 1 : len(ids)] = True
        block, scored = torch.from_numpy(block).to(device), torch.from_numpy(scored)[:, 1:].to(device)
        hidden = model.hidden(block[:, :-1])[scored]
        for states, target in zip(hidden.split(1024), block[:, 1:][scored].split(1024), strict=True):
            total += torch.nn.functional.cross_entropy(
                model.head(states).float(), target, reduction="sum"
            ).item()
    return total


def bits_per_byte(model, tokenizer, texts):
    """Bits the model needs for each UTF-8 byte of `texts`, each read as <bos> text <eos>; and perplexity per token."""
    documents = encode(tokenizer, texts)
    total = nats(model, documents)
    n_tokens = sum(len(ids) - 1 for ids in documents)
    n_bytes = sum(len(text.encode()) for text in texts)
    return total / math.log(2) / n_bytes, math.exp(total / n_tokens)


@torch.no_grad()
def pair_accuracy(model, tokenizer, pairs, batch=128):
    """Share of (good, bad) sentence pairs in which the good one is the likelier, as in BLiMP."""
    ids = encode(tokenizer, [sentence for pair in pairs for sentence in pair])
    scores = np.zeros(len(ids))
    order = np.argsort([len(i) for i in ids], kind="stable")
    for part in np.array_split(order, max(1, len(order) // batch)):
        block = torch.zeros(len(part), max(len(ids[i]) for i in part), dtype=torch.long)
        for row, i in enumerate(part):
            block[row, : len(ids[i])] = torch.from_numpy(ids[i].astype(np.int64))
        logp = model(block[:, :-1]).log_softmax(-1).gather(2, block[:, 1:, None])[..., 0]
        scores[part] = [logp[row, : len(ids[i]) - 1].sum().item() for row, i in enumerate(part)]
    return float((scores[::2] > scores[1::2]).mean())


def build(recipe):
    """A fresh model of the recipe's family and shape."""
    from utils import objectives, zoo

    if recipe.objective == "imitation":
        return objectives.Pupil(zoo.load(recipe.parent)[0])
    if recipe.objective == "replaced tokens":
        return ElectraPair()
    family = zoo.FAMILIES[recipe.family]
    shape = dict(recipe.shape, vocab_size=VOCAB_SIZE)
    if not recipe.objective and "n_positions" in family.published_config:
        shape["n_positions"] = recipe.length
    return family(family.make_config(**shape), *([recipe.head] if recipe.head else []))


def trained(model, name):
    """{member of the zoo: model} that a training run of `name` has made."""
    if isinstance(model, ElectraPair):
        return {name: model.discriminator, f"{name}-generator": model.generator}
    return {name: getattr(model, "student", model)}


def get_tokenizer(sources):
    """The zoo's tokenizer: the shipped one, or a new one from `sources` where none is shipped."""
    from tokenizers import Tokenizer

    from utils import zoo

    path = zoo.FOLDER / "tokenizer.json"
    if not path.exists():
        with course.atomic(path) as temporary:
            train_tokenizer(sources).save(str(temporary))
    return Tokenizer.from_file(str(path))


def encoded(sources, tokenizer, mix, folder):
    """The stream of a mix; kept in `folder`, since to tokenize a corpus takes minutes."""
    key = json.dumps(
        [mix, {name: len(parts["train"]) for name, parts in sources.items()}, tokenizer.to_str()]
    )
    path = Path(folder) / f"stream-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        ids = {source: encode(tokenizer, parts["train"]) for source, parts in sources.items()}
        ids = stream(ids, {source: times for source, times in mix.items() if source in sources})
        with course.atomic(path) as temporary, open(temporary, "wb") as file:
            np.save(file, ids)
    return np.load(path)


def scorer(recipe, tokenizer, sources):
    """`evaluate(model)` for `train.fit`: a score on held-out documents of each watched source, lower is better.

    Bits per byte for a language model; for the families the loss of their own task, drawn once and for all, on 64 rows.
    """
    watched = {source: sources[source]["dev"] for source in WATCHED if source in sources}
    if not recipe.objective:
        watched = {source: texts[:: max(1, len(texts) // 40)] for source, texts in watched.items()}
        score = lambda model, texts: bits_per_byte(model, tokenizer, texts)[0]
    else:
        watched = {source: held_out_rows(tokenizer, texts, recipe) for source, texts in watched.items()}
        score = lambda model, ids: held_out_loss(model, recipe, ids)
    return lambda model: {source: round(score(model, part), 4) for source, part in watched.items()}


def held_out_rows(tokenizer, texts, recipe, n=64):
    """`n` rows of running text from all over `texts`, as the recipe trains on them, (n, length)."""
    ids = np.concatenate(encode(tokenizer, texts))
    ids = ids[: len(ids) // recipe.length * recipe.length].reshape(-1, recipe.length)
    return torch.from_numpy(ids[:: max(1, len(ids) // n)][:n].astype(np.int64))


@torch.no_grad()
def held_out_loss(model, recipe, ids):
    """The loss of the recipe's own task on rows ids (n, length), in nats."""
    generator = torch.Generator().manual_seed(0)
    return OBJECTIVES[recipe.objective](model, (ids,), generator).item()


def train_member(name, corpus, state, steps=None):
    """Make the zoo's member `name` from the texts in folder `corpus`; checkpoints stand in folder `state`."""
    from utils import train

    torch.manual_seed(0)
    recipe = RECIPES[name]
    if recipe.objective == "pairs":
        return train_on_pairs(name, corpus, state, steps)
    sources = read_corpus(corpus, recipe.mix)
    tokenizer = get_tokenizer(sources)
    data = encoded(sources, tokenizer, recipe.mix, state.parent)
    if train.rank() == 0:
        print(f"{name}: {len(data):,} tokens, {recipe.batch * recipe.length:,} a step", flush=True)
    evaluate = scorer(recipe, tokenizer, sources)
    model = build(recipe).to(train.device())
    steps, how = steps or recipe.steps, {"rate": recipe.rate, "outer": recipe.outer, "evaluate": evaluate}
    batches = windows(data, recipe.batch, recipe.length)
    if recipe.objective:
        how |= {"objective": OBJECTIVES[recipe.objective]}
        batches = rows(data, recipe.batch, recipe.length, steps * recipe.grows)
    log = train.fit(model, batches, steps, state, **how)
    if train.rank() != 0:
        return
    store(
        name,
        model,
        tokenizer,
        evaluate,
        log,
        {"steps": steps, "tokens": steps * recipe.batch * recipe.length},
    )


def store(name, model, tokenizer, evaluate, log, run):
    """Write what a training run has made into the zoo: models, their scores as stored, the log."""
    from utils import zoo

    for member, part in trained(model.eval(), name).items():
        zoo.save(part, tokenizer, zoo.FOLDER / member)
        part.load_state_dict(zoo.from_transformers(zoo.FOLDER / member).state_dict())
    run |= {"hardware": hardware()}
    run |= {"seconds": round(sum(entry["seconds"] for entry in log))}
    run |= {"stored": evaluate(model)}
    run |= {"log": [entry for entry in log if entry["step"] % 50 == 0 or len(entry) > 3]}
    with course.atomic(zoo.FOLDER / name / "log.json") as path:
        path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    seal()


def hardware():
    """The processor (or the accelerator) that this process computes on, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    name, sets = course.processor()
    return f"{torch.get_num_threads()} core(s) of {name}{' with AMX' if 'amx_bf16' in sets else ''}"


def seal():
    """Write the sha256 of every file that `zoo.load` reads into data/zoo/SHA256SUMS."""
    from utils import zoo

    every = dict.fromkeys(zoo.members(), zoo.FILES) | zoo.WORD_VECTORS
    files = sorted(zoo.FOLDER / name / file for name, files in every.items() for file in files)
    lines = [f"{zoo.sha256(path)}  {path.relative_to(zoo.FOLDER).as_posix()}\n" for path in files]
    with course.atomic(zoo.FOLDER / "SHA256SUMS") as path:
        path.write_text("".join(lines), encoding="utf-8")


def as_written(sentence):
    """A tokenised, lower-cased sentence as a text would have it: "look at this ." becomes "Look at this."."""
    return sentence[:1].upper() + sentence[1:].replace(" .", ".").replace(" ?", "?").replace(" ,", ",")


def pairs(corpus, name):
    """The minimal pairs of BLiMP or Zorro in folder `corpus`: {phenomenon: [(good, bad), …]}."""
    groups = {}
    with lzma.open(Path(corpus) / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            groups.setdefault(row["paradigm"], []).append((as_written(row["good"]), as_written(row["bad"])))
    return groups


# Sentence-BERT: the zoo's BERT, trained on pairs of sentences that belong together.

PAIRS = {"paraphrases": 4, "splits": 2, "gists": 2, "words": 3, "neighbours": 5}  # shares of the batches


def rows_of(corpus, name, split="train"):
    """The rows of a packed file of JSON lines that may be trained on, or those held out ("dev")."""
    with lzma.open(Path(corpus) / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row.get("split", "train") == split]


def sentences_of(text):
    """The sentences of a text, cut where a full stop, question or exclamation mark is followed by space."""
    return [sentence for sentence in re.split(r"(?<=[.!?])[\"']?\s+", text.strip()) if len(sentence) > 10]


def sentence_pairs(corpus, split="train"):
    """{kind: [(sentence, sentence), …]}, two that mean the same or nearly so, of one split.

    paraphrases  sentences with one French translation, and pairs that people scored 4 or more out of 5
    splits       a long sentence of Wikipedia and the two short ones that say the same
    gists        the beginning of a story and the first sentence of its paraphrase or summary
    words        a word and its definition in the Open English WordNet
    neighbours   sentences that stand next to each other in a story: weak, but there are many
    """
    found = {kind: [] for kind in PAIRS}
    scored = [row for row in rows_of(corpus, "sts-open", split) if row["score"] >= 4]
    for row in rows_of(corpus, "paraphrase-tatoeba", split) + scored:
        found["paraphrases"].append((row["sentence1"], row["sentence2"]))
    for row in rows_of(corpus, "wikisplit", split):
        found["splits"].append((as_written(row["complex"]), as_written(" ".join(row["simple"]))))
    for row in rows_of(corpus, "instruct", split):
        if row["source"] in ("snakes-paraphrase", "snakes-summaries") and row["input"]:
            start, gist = sentences_of(row["input"])[:3], sentences_of(row["output"])[:1]
            found["gists"].append((" ".join(start), " ".join(gist)))
    for row in rows_of(corpus, "oewn-senses", split):
        found["words"].append((row["lemma"], row["definition"]))
    for row in rows_of(corpus, "stories-simple", split):
        pairs = list(zip(*(sentences_of(row["text"])[i:] for i in (0, 1)), strict=False))
        found["neighbours"].extend(pairs[::5])
    return {kind: [pair for pair in pairs if all(pair)] for kind, pairs in found.items()}


def pair_batches(encoder, pairs, batch=128, seed=0):
    """`batches(step)`: ids and mask of the first sentences of `batch` pairs of one kind, and of the second ones."""
    from utils.lessons.sentence_embeddings import pad_right

    kinds = [kind for kind, share in PAIRS.items() for _ in range(share) if pairs[kind]]

    def batches(step):
        rng = np.random.default_rng([seed, step])
        kind = pairs[kinds[rng.integers(len(kinds))]]
        chosen = [kind[i] for i in rng.permutation(len(kind))[:batch]]
        sides = [pad_right(encoder.rows(side)) for side in zip(*chosen, strict=True)]
        return tuple(
            x for ids, mask in sides for x in (ids, torch.ones_like(ids) > 0 if mask is None else mask)
        )

    return batches


def train_on_pairs(name, corpus, state, steps=None):
    """Make the member `name` from its parent and pairs of sentences: an encoder without a head."""
    from utils import train, zoo
    from utils.lessons.sentence_embeddings import SentenceEncoder

    torch.manual_seed(0)
    recipe, (parent, tokenizer) = RECIPES[name], zoo.load(RECIPES[name].parent)
    model, learned = type(parent)(parent.config), parent.state_dict()
    model.load_state_dict({k: learned.get(k, w) for k, w in model.state_dict().items()})
    as_encoder = lambda model: SentenceEncoder(model, tokenizer, max_length=recipe.length)
    evaluate = lambda model: {"sts-open": round(sts_correlation(as_encoder(model), corpus), 4)}
    batches = pair_batches(as_encoder(model), sentence_pairs(corpus), recipe.batch)
    how = {"rate": recipe.rate, "evaluate": evaluate, "objective": OBJECTIVES[recipe.objective]}
    steps = steps or recipe.steps
    log = train.fit(model.to(train.device()), batches, steps, state, **how)
    if train.rank() == 0:
        store(name, model, tokenizer, evaluate, log, {"steps": steps, "pairs": steps * recipe.batch})


def sts_correlation(encoder, corpus, source=""):
    """Spearman's correlation of cosines with the scores that people gave to the held-out pairs of sts-open.

    source: only the pairs whose source ends so ("images"), else all
    """
    from scipy.stats import spearmanr

    rows = [row for row in rows_of(corpus, "sts-open", "dev") if row["source"].endswith(source)]
    u, v = (encoder.encode([row[side] for row in rows]) for side in ("sentence1", "sentence2"))
    cosines = torch.nn.functional.cosine_similarity(u, v)
    return float(spearmanr(cosines.numpy(), [row["score"] for row in rows]).statistic)


def main(arguments):
    """The command line of the zoo."""
    import argparse

    from utils import zoo

    parser = argparse.ArgumentParser(prog="python -m utils.zoo", description=zoo.__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, help_text in (
        ("train", "make a member again"),
        ("card", "measure a member and write its card"),
        ("reference", "measure held-out human text for lesson 07"),
    ):
        part = verbs.add_parser(verb, help=help_text)
        if verb != "reference":
            part.add_argument("name", choices=sorted([*RECIPES, *zoo.WORD_VECTORS]))
        part.add_argument("--corpus", required=True, type=Path, help="a folder of .txt or .jsonl files")
        part.add_argument("--threads", type=int, help="threads that torch may use")
        if verb == "train":
            part.add_argument("--state", type=Path, help="folder for checkpoints and the log")
            part.add_argument("--steps", type=int, help="fewer steps than the recipe's, for a trial")
    verbs.add_parser("verify", help="compare every file with its sha256")
    options = parser.parse_args(arguments)
    if getattr(options, "threads", None):
        torch.set_num_threads(options.threads)
    if getattr(options, "name", None) in zoo.WORD_VECTORS:
        from utils import vectors

        vectors.train_member(options.corpus) if options.verb == "train" else vectors.write_card()
    elif options.verb == "train":
        state = options.state or course.state() / "zoo"
        train_member(options.name, options.corpus, state / options.name, options.steps)
    elif options.verb == "card":
        from utils import cards

        cards.write(options.name, options.corpus)
    elif options.verb == "reference":
        from utils import cards

        cards.write_reference(options.corpus)
    else:
        for name in (*zoo.members(), *zoo.WORD_VECTORS):
            zoo.verify(name)
            print(f"{name}: as it was shipped")
