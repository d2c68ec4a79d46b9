"""How the zoo was made: the corpus, the tokenizer, the recipes, the measures. Used through `python -m utils.zoo`."""

import hashlib
import json
import lzma
import math
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
    objective: str = (
        ""  # of utils.objectives; "" = each token from those before it, in windows one token apart
    )
    head: str = ""  # of the family, where it has several
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
    "bert": relative("bert", "blanks and next sentences", "pretraining"),
    "roberta": relative("roberta", "blanks", "masked"),
    "albert": relative("albert", "blanks and sentence order", "pretraining"),
    "electra": relative("electra", "replaced tokens", "replaced"),
    "xlnet": relative("xlnet", "permuted", "language"),
    "llama": relative("llama", "following", "language"),
    "t5": relative("t5", "spans", "language"),
    "bart": relative("bart", "noise", "language"),
    "distilbert": relative("distilbert", "imitation", "masked", parent="bert"),
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


def rows(ids, batch, length):
    """`batches(step)` over an array of ids: (rows,), (batch, length), round and round."""
    inputs = windows(ids, batch, length)
    return lambda step: inputs(step)[:1]


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
    from utils import train, zoo

    torch.manual_seed(0)
    recipe = RECIPES[name]
    sources = read_corpus(corpus, recipe.mix)
    tokenizer = get_tokenizer(sources)
    data = encoded(sources, tokenizer, recipe.mix, state.parent)
    if train.rank() == 0:
        print(f"{name}: {len(data):,} tokens, {recipe.batch * recipe.length:,} a step", flush=True)
    evaluate = scorer(recipe, tokenizer, sources)
    model = build(recipe).to(train.device())
    steps, how = steps or recipe.steps, {"rate": recipe.rate, "evaluate": evaluate}
    if recipe.objective:
        how |= {"objective": OBJECTIVES[recipe.objective]}
    cut = rows if recipe.objective else windows
    log = train.fit(model, cut(data, recipe.batch, recipe.length), steps, state, **how)
    if train.rank() != 0:
        return
    for member, part in trained(model.eval(), name).items():
        zoo.save(part, tokenizer, zoo.FOLDER / member)
        part.load_state_dict(zoo.from_transformers(zoo.FOLDER / member).state_dict())
    run = {"steps": steps, "tokens": steps * recipe.batch * recipe.length, "hardware": hardware()}
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
