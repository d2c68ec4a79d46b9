"""The benchmark: our code beside the libraries', in one run, taking turns. What counts is the ratios.

    python -m utils.bench                      all parts; writes benchmarks.md
    python -m utils.bench training decoding    these parts only; prints the tables, --out FILE writes them
    --threads N, --rounds N                    default: two threads, seven rounds
    --clock cpu --threads 1                    CPU time in place of wall time, on a machine that others use too
    --quick                                    tiny sizes: shows that the machinery works, measures nothing

Each contender lives in a process of its own, so neither leaves its memory to the other, and works once per round when
it is its turn. The first round is not counted; there it is checked that all compute the same.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from utils import course

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks.md"
FULL = {
    "shape": {},  # of the GPT, where it is not the course's own
    "batch": 16,
    "length": 256,
    "prompt": 32,
    "n_new": 100,
    "work": [[kind, batch] for kind in ("greedy", "top-p 0.9", "beam 4") for batch in (1, 32)],
    "jobs": {  # what is done, how many merges, on which text, by whom: the first is the reference
        "train, 512 merges": ["news", 512, ["plain loop", "ours", "tokenizers"]],
        "train, 8,192 merges": ["wikipedia", 8192, ["tokenizers", "ours"]],
        "encode, every word new": ["wikipedia", 8192, ["tokenizers", "ours"]],
    },
    "families": {"names": [], "shape": {}, "batch": 16, "length": 128, "sentences": 128},  # no names: all
    "adapting": {
        "gpt": {"shape": {}, "batch": 8, "length": 128, "steps": 10},
        "encoder": {"shape": {}, "batch": 16, "steps": 10},
    },
}
QUICK = FULL | {
    "shape": {"vocab_size": 64, "n_positions": 32, "n_layers": 1, "n_heads": 2, "d_model": 16},
    "batch": 2,
    "length": 16,
    "prompt": 4,
    "n_new": 5,
    "work": [["beam 4", 2]],
    "jobs": {
        "train, 9 merges": ["news", 9, ["plain loop", "ours", "tokenizers"]],
        "encode, 9 merges": ["news", 9, ["tokenizers", "ours"]],
    },
    "families": {
        "names": ["bert", "t5"],
        "shape": {"n_layers": 1},
        "batch": 2,
        "length": 16,
        "sentences": 40,
    },
    "adapting": {
        "gpt": {
            "shape": {"vocab_size": 64, "n_positions": 32, "n_layers": 1, "n_heads": 2, "d_model": 16},
            "batch": 2,
            "length": 16,
            "steps": 3,
        },
        "encoder": {
            "shape": {"vocab_size": 64, "n_positions": 96, "n_layers": 1, "n_heads": 2, "d_model": 16},
            "batch": 4,
            "steps": 3,
        },
    },
}
KEPT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_MAX_": "0",
}  # glibc: freed memory stays with the process
GOALS = {
    ("training", "ours, float32, AdamW"): 1.4,
    ("training", "ours, bf16, Muon + AdamW, as `fit` trains"): 3.0,
    ("greedy", 1): 1.7,
    ("greedy", 32): 1.3,
    ("top-p 0.9", 1): 1.7,
    ("top-p 0.9", 32): 1.3,
    ("beam 4", 1): 1.9,
    ("beam 4", 32): 1.4,
    ("train, 512 merges", "ours"): 50,
    ("train, 8,192 merges", "ours"): 0.35,
    **{(what, of): goal for what in ("train", "encode") for of, goal in {"lowest": 1, "median": 2}.items()},
    **{("adapting", way): 1.5 for way in ("full", "LoRA")},
}


class Trouble(RuntimeError):
    """One sentence that says what went wrong."""


# ---- the contenders, each run in its own process


def new_gpt(sizes):
    """A GPT with random weights, the same in every process."""
    import torch

    from utils.lessons.gpt import GPT, GPTConfig

    torch.manual_seed(0)
    return GPT(GPTConfig(**sizes["shape"]))


def n_parameters(sizes):
    """How many parameters `new_gpt` has, counted without memory for them."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in new_gpt(sizes).parameters())


def plain_step(model, loss_of, weight_decay=0.01):
    """A function that takes one step of fused AdamW, gradients clipped, on `loss_of(…)`; it returns the loss."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=weight_decay, fused=True)

    def step(*batch):
        loss = loss_of(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def reference_training(sizes, autocast):
    """transformers' GPT-2 at its best: sdpa, no dropout, no cache, fused AdamW."""
    import torch

    from utils import zoo

    model = zoo.to_transformers(new_gpt(sizes)).train()
    assert model.config._attn_implementation == "sdpa"

    def loss(inputs, targets):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model(inputs, labels=targets, shift_labels=targets, use_cache=False).loss

    return plain_step(model, loss)


def our_training(sizes, muon):
    """The step that `utils.train.fit` takes, with its optimisers or with AdamW alone."""
    import torch

    from utils import train

    train.keep_memory()
    model = new_gpt(sizes).train()
    adamw = [torch.optim.AdamW(model.parameters(), fused=True)]
    optimizers = train.make_optimizers(model) if muon else adamw
    mixed = train.MixedPrecision(model)
    return lambda inputs, targets: train.train_step(mixed, optimizers, (inputs, targets), rate=1e-4)


def our_float32_training(sizes):
    """The same without bf16: the float32 model computes by itself."""
    from utils import train

    model = new_gpt(sizes).train()
    return plain_step(model, lambda inputs, targets: train.token_loss(model, inputs, targets))


REFERENCE = "transformers, float32, AdamW"
TRAINING = {
    REFERENCE: (reference_training, {"autocast": False}),
    "transformers, bf16 autocast, AdamW": (reference_training, {"autocast": True}),
    "ours, float32, AdamW": (our_float32_training, {}),
    "ours, bf16, AdamW": (our_training, {"muon": False}),
    "ours, bf16, Muon + AdamW, as `fit` trains": (our_training, {"muon": True}),
}


def training_work(sizes, name):
    """A function that takes one training step on random tokens and returns the loss."""
    import torch

    from utils.lessons.gpt import GPTConfig

    build, settings = TRAINING[name]
    step = build(sizes, **settings)
    n_tokens = GPTConfig(**sizes["shape"]).vocab_size
    shape = sizes["batch"], sizes["length"] + 1
    ids = torch.randint(n_tokens, shape, generator=torch.Generator().manual_seed(1))
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    return lambda: step(inputs, targets)


def story_model(sizes):
    """The zoo's GPT; a random one where the sizes ask for another shape or the zoo is empty. And its name."""
    from utils import zoo

    if not sizes["shape"] and "gpt" in zoo.members():
        return zoo.load("gpt")[0], "the zoo's trained GPT"
    return new_gpt(sizes).eval(), "a GPT with random weights"


def our_decoding(model, kind):
    """ids (B, T), n → texts (B, T + n), by utils.lessons.decoding."""
    from utils.lessons.decoding import beam_search, greedy, sample, top_p

    return {
        "greedy": lambda ids, n: greedy(model, ids, n),
        "top-p 0.9": lambda ids, n: sample(model, ids, n, [top_p(0.9)]),
        "beam 4": lambda ids, n: beam_search(model, ids, n, n_beams=4)[0][:, 0],
    }[kind]


def reference_decoding(model, kind):
    """The same by transformers' `generate`, with its cache and no end token, so that both write n tokens."""
    import torch

    settings = {
        "greedy": {"do_sample": False},
        "top-p 0.9": {"do_sample": True, "top_p": 0.9, "top_k": 0},
        "beam 4": {"do_sample": False, "num_beams": 4},
    }[kind]
    model.generation_config.eos_token_id = None

    def generate(ids, n):
        real = torch.ones_like(ids)
        return model.generate(
            ids, attention_mask=real, max_new_tokens=n, use_cache=True, pad_token_id=0, **settings
        )

    return generate


def decoding_work(sizes, kind, batch, side):
    """A function that writes n_new tokens behind each prompt and returns the texts as lists, and the model's name."""
    import torch

    from utils import zoo
    from utils.lessons.decoding import sample

    model, name = story_model(sizes)
    torch.manual_seed(1)
    start = torch.ones(batch, 1, dtype=torch.long)  # <bos>
    prompts = sample(model, start, sizes["prompt"] - 1)
    if side == "transformers":
        decode = reference_decoding(zoo.to_transformers(model), kind)
    else:
        decode = our_decoding(model.to(torch.bfloat16) if side == "ours, bf16" else model, kind)

    def work():
        torch.manual_seed(2)
        return decode(prompts, sizes["n_new"]).tolist()

    return work, name


SIDES = ("transformers", "ours, float32", "ours, bf16")


def library_bpe(texts, n_merges):
    """The tokenizers library's byte-level BPE, trained on the texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    twin = Tokenizer(models.BPE())
    twin.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges, initial_alphabet=letters, show_progress=False, special_tokens=[]
    )
    twin.train_from_iterator(texts, trainer)
    return twin


def library_merges(twin):
    """Its merges as pairs of ids."""
    its = json.loads(twin.to_str())["model"]
    return [[its["vocab"][part] for part in pair] for pair in its["merges"]]


def tokens_work(sizes, job, side):
    """A function that does a job with tokens and returns something short that is equal if the result is."""
    from utils import data, pages
    from utils.lessons.tokens import BPE, count_words, train_bpe

    text, n_merges, _ = sizes["jobs"][job]
    texts = data.news() if text == "news" else data.wikipedia()
    train = {
        "ours": lambda: train_bpe(count_words(texts), n_merges),
        "tokenizers": lambda: library_bpe(texts, n_merges),
    }
    if side == "plain loop":
        train_plainly = pages.definitions("01_tokens", "count_pairs", "train_plainly")[1]
        train[side] = lambda: train_plainly(count_words(texts), n_merges)
    if job.startswith("train"):
        as_merges = library_merges if side == "tokenizers" else list
        return train[side], lambda merges: [list(pair) for pair in as_merges(merges)]
    known = train[side]()
    if side == "tokenizers":
        saved = known.to_str()
        encode = lambda: [encoding.ids for encoding in type(known).from_str(saved).encode_batch(texts)]
    else:
        encode = lambda: list(map(BPE(known).encode, texts))
    return encode, lambda ids: hashlib.sha256(json.dumps(ids).encode()).hexdigest()


# ---- a contender's process


def memory(key="VmRSS"):
    """Bytes this process holds now, or held at most (VmHWM); where there is no /proc, always the most."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(rf"{key}:\s+(\d+)", status.read_text(encoding="ascii"))[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def forget_peak():
    """Let VmHWM start anew from what is held now, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def page_faults():
    """How often the system has handed this process a page of memory so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def prepare(threads, with_transformers):
    """Import what the work needs and set the threads, so that the memory after this is the baseline."""
    import torch

    from utils import train, zoo  # noqa: F401
    from utils.lessons import decoding  # noqa: F401

    torch.set_num_threads(threads)
    if with_transformers:
        from transformers import GenerationConfig, GPT2LMHeadModel, logging  # noqa: F401

        logging.set_verbosity_error()
    weight = torch.ones(2, 2, requires_grad=True)
    weight.sum().backward()
    torch.optim.AdamW([weight]).step()  # the first step of all imports much


def serve(work, baseline, asked, answers, brief=lambda result: result, chosen=None):
    """Do the work once for each line asked; answer with its cost and, in brief, its result as a line of JSON.

    chosen: line → work, where there are several
    """
    forget_peak()
    for line in asked:
        work = chosen(line.strip()) if chosen else work
        faults, cpu, wall = page_faults(), time.process_time(), time.perf_counter()
        result = work()
        cost = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        cost |= {
            "faults": page_faults() - faults,
            "peak": memory("VmHWM") - baseline,
            "result": brief(result),
        }
        print(json.dumps(cost), file=answers, flush=True)


def contender(order):
    """What a contender's process does; `order` is what its parent wants."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    if order["part"] == "tokens":
        work, brief = tokens_work(order["sizes"], *order["name"])
        print(json.dumps({}), file=answers, flush=True)
        serve(work, memory(), sys.stdin, answers, brief)
        return
    prepare(order["threads"], order["name"][-1].startswith("transformers"))
    baseline = memory()
    if order["part"] in APART:
        part = apart(order["part"])
        chosen = part.worker(order["sizes"], *order["name"])
        print(json.dumps({}), file=answers, flush=True)
        serve(None, baseline, sys.stdin, answers, getattr(part, "brief", list), chosen)
        return
    if order["part"] == "training":
        work, model = training_work(order["sizes"], *order["name"]), "random weights"
    else:
        work, model = decoding_work(order["sizes"], *order["name"])
    n = n_parameters(order["sizes"])
    print(json.dumps({"model": model, "parameters": n}), file=answers, flush=True)
    serve(work, baseline, sys.stdin, answers)


class Contender:
    """A contender as its parent sees it: `ask()` makes it work once and returns the cost and the result."""

    def __init__(self, order, extra_env=()):
        env = (
            os.environ
            | {"OMP_NUM_THREADS": str(order.get("threads", 1)), "HF_HUB_OFFLINE": "1"}
            | dict(extra_env)
        )
        command = [sys.executable, "-m", "utils.bench", "--contender", json.dumps(order)]
        self.label = " ".join(map(str, order["name"]))
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, encoding="utf-8", **pipes)

    def hear(self):
        """The next answer."""
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or ["it said nothing"]
            raise Trouble(f"The contender “{self.label}” stopped: {said[-1]}")
        return json.loads(line)

    def ask(self, what="go"):
        with contextlib.suppress(BrokenPipeError):  # then `hear` says why
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        return self.hear()

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):
                pipe.close()


@contextlib.contextmanager
def contenders(orders, extra_env=()):
    """{name: contender} for {name: order}, ready to work; their processes end with the block."""
    ready = {}
    try:
        for name, order in orders.items():
            ready[name] = Contender(order, extra_env)
            ready[name].about = ready[name].hear()  # one after the other: they are not to disturb each other
        yield ready
    finally:
        for one in ready.values():
            one.close()


# ---- measuring


def take_turns(ready, rounds):
    """All work in every round, each round begun by another; {name: [answer of the uncounted round, of 1, 2, …]}."""
    answers, names = {name: [] for name in ready}, list(ready)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            answers[name].append(ready[name].ask())
    return answers


def times(answers, clock):
    """Seconds of the counted rounds."""
    return [answer[clock] for answer in answers[1:]]


def ratio(ours, theirs):
    """How many times as fast as theirs ours is: the median over the rounds, the lowest and the highest."""
    each = [their / our for our, their in zip(ours, theirs, strict=True)]
    return statistics.median(each), min(each), max(each)


def check_losses(answers):
    """Before anything is learned all contenders must find the same loss: float32 to 1e-4, bf16 to 1e-2."""
    expected = answers[REFERENCE][0]["result"]
    for name, given in answers.items():
        found, allowed = given[0]["result"], 1e-2 if "bf16" in name else 1e-4
        if not abs(found - expected) <= allowed * abs(expected):
            raise Trouble(
                f"“{name}” finds the loss {found:.6f}, transformers {expected:.6f}: they do not do the same work."
            )


def equal_rows(answers):
    """In how many rows our float32 texts are transformers', token for token."""
    ours, theirs = (answers[side][0]["result"] for side in ("ours, float32", "transformers"))
    return sum(a == b for a, b in zip(ours, theirs, strict=True))


def check_texts(kind, answers):
    """Greedy and beam search must write what `generate` writes."""
    rows, equal = len(answers["transformers"][0]["result"]), equal_rows(answers)
    if not kind.startswith("top-p") and equal < rows:
        raise Trouble(
            f"{kind}: only {equal} of {rows} texts are those of `generate`, so there is nothing to compare."
        )


def training(options, sizes, names=tuple(TRAINING)):
    """All training contenders take turns, with the system's way of handing out memory and with memory kept."""
    orders = {
        name: {"part": "training", "name": [name], "sizes": sizes, "threads": options.threads}
        for name in names
    }
    found = {}
    for memory_kind, env in {"system": {}, "kept": KEPT}.items():
        say(f"training, {memory_kind} memory")
        with contenders(orders, env) as ready:
            answers = take_turns(ready, options.rounds)
            parameters = ready[REFERENCE].about["parameters"]
        check_losses(answers)
        found[memory_kind] = answers
    return {"answers": found, "parameters": parameters}


def decoding(options, sizes, sides=SIDES):
    """For each kind of work and batch the sides take turns."""
    found = []
    for kind, batch in sizes["work"]:
        say(f"{kind}, batch {batch}")
        name = lambda side, kind=kind, batch=batch: [kind, batch, side]
        orders = {
            side: {"part": "decoding", "name": name(side), "sizes": sizes, "threads": options.threads}
            for side in sides
        }
        with contenders(orders) as ready:
            answers = take_turns(ready, options.rounds)
            model = ready["transformers"].about
        check_texts(kind, answers)
        found.append({"kind": kind, "batch": batch, "answers": answers, "model": model})
    return found


def check_equal(job, answers):
    """All must have learnt the same merges, or found the same tokens."""
    results = {side: given[0]["result"] for side, given in answers.items()}
    reference, expected = next(iter(results.items()))
    for side, found in results.items():
        if found != expected:
            raise Trouble(
                f"{job}: “{side}” finds something else than “{reference}”, so there is nothing to compare."
            )


def tokens(options, sizes):
    """For each job with tokens the sides take turns."""
    found = {}
    for job, (_, _, sides) in sizes["jobs"].items():
        say(job)
        orders = {
            side: {"part": "tokens", "name": [job, side], "sizes": sizes, "threads": options.threads}
            for side in sides
        }
        with contenders(orders, {"TOKENIZERS_PARALLELISM": "false"}) as ready:
            found[job] = take_turns(ready, options.rounds)
        check_equal(job, found[job])
    return found


APART = "families", "adapting"  # the parts with a module of their own, utils/bench_<part>.py


def apart(part):
    """The module of a part, imported where it is wanted: it brings the models with it."""
    return importlib.import_module(f"utils.bench_{part}")


def last_kept(make):
    """A function line → work that makes a line's work when it is asked for, and keeps one work only."""
    kept = {}

    def chosen(line):
        if line not in kept:
            kept.clear()
            kept[line] = make(line)
        return kept[line]

    return chosen


def jobs_in_turns(part, sides, jobs, check, options, sizes, environment=(), before=""):
    """{job: answers}: at each job the sides take turns; a side is one process for all of them.

    before: what stands before a job where progress is told
    """
    orders = {
        side: {"part": part, "name": [side], "sizes": sizes, "threads": options.threads} for side in sides
    }
    found = {}
    with contenders(orders, environment) as ready:
        for job in jobs:
            say(before + job)
            turns = {
                side: SimpleNamespace(ask=lambda one=one, job=job: one.ask(job))
                for side, one in ready.items()
            }
            found[job] = take_turns(turns, options.rounds)
            check(job, found[job])
    return found


# ---- the report


def say(text):
    print(f"· {text}", file=sys.stderr, flush=True)


def times_as_fast(found):
    """`1.92 (1.85 to 1.97)`."""
    middle, low, high = found
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def goal_of(key):
    return f"≥ {GOALS[key]:g}" if key in GOALS else ""


def mb(n_bytes):
    return f"{n_bytes / 2**20:,.0f}"


MEMORY = {
    "system": "Memory as the system hands it out: large freed arrays go back to it and return as page faults.\n"
    "`fit` asks glibc to keep them, and so do our bf16 rows; the other rows do not.",
    "kept": f"The same with {' and '.join(f'`{k}={v}`' for k, v in KEPT.items())}: freed memory is kept (glibc).",
}


def training_table(answers, options, n_tokens):
    """One row for each contender, then the fair comparison of bf16 with bf16 as a sentence."""
    seconds = {name: times(given, options.clock) for name, given in answers.items()}
    rows = [
        [
            name,
            f"{n_tokens / statistics.median(seconds[name]):,.0f}",
            times_as_fast(ratio(seconds[name], seconds[REFERENCE])),
            goal_of(("training", name)),
            mb(max(answer["peak"] for answer in given)),
            f"{statistics.median(answer['faults'] for answer in given[1:]):,.0f}",
        ]
        for name, given in answers.items()
    ]
    both = ratio(seconds["ours, bf16, AdamW"], seconds["transformers, bf16 autocast, AdamW"])
    head = ["code", "tokens/s", "× as fast as the first row", "goal", "peak MB", "page faults a step"]
    return f"{table(head, rows)}\n\nWith AdamW, bf16 against bf16 autocast: {times_as_fast(both)}."


def training_report(found, options, sizes):
    """The tables of training steps."""
    tables = [
        f"{MEMORY[kind]}\n\n{training_table(answers, options, sizes['batch'] * sizes['length'])}"
        for kind, answers in found["answers"].items()
    ]
    what = f"a GPT-2 of {found['parameters'] / 1e6:.1f} M parameters, batch {sizes['batch']} × {sizes['length']} tokens"
    return f"""## A training step

Forward, mean cross entropy, backward, gradient clipping, optimiser; {what}.
The reference is `GPT2LMHeadModel` with sdpa, no dropout, no cache and fused AdamW.

{(chr(10) * 2).join(tables)}
"""


def decoding_report(found, options, sizes):
    """The table of decoding."""
    rows = []
    for work in found:
        answers, n_tokens = work["answers"], work["batch"] * sizes["n_new"]
        theirs = times(answers["transformers"], options.clock)
        row = [work["kind"], work["batch"], f"{n_tokens / statistics.median(theirs):,.0f}"]
        for side in list(answers)[1:]:
            row.append(times_as_fast(ratio(times(answers[side], options.clock), theirs)))
        row.append(goal_of((work["kind"], work["batch"])))
        row.append(f"{equal_rows(answers)} of {work['batch']}")
        row += [mb(max(answer["peak"] for answer in given)) for given in answers.values()]
        rows.append(row)
    sides = list(found[0]["answers"])
    head = ["work", "batch", "transformers tokens/s", *(f"× as fast: {side}" for side in sides[1:])]
    head += ["goal, float32", "equal texts, float32", *(f"peak MB: {side}" for side in sides)]
    model = found[0]["model"]
    who = f"{model['model']}, {model['parameters'] / 1e6:.1f} M parameters"
    return f"""## Decoding

{sizes["n_new"]} new tokens behind prompts of {sizes["prompt"]}, against `generate` with its cache and the same weights:
{who}. Greedy and beam search in float32 write what `generate` writes,
token for token, or the benchmark stops. Sampling uses the same seed on both sides.

{table(head, rows)}
"""


def tokens_report(found, options, sizes):
    """The table of tokenizers."""
    rows = []
    for job, answers in found.items():
        reference, *others = answers
        for side in others:
            each = {name: times(answers[name], options.clock) for name in (reference, side)}
            row = [job, sizes["jobs"][job][0], side, f"{statistics.median(each[side]):.2f}", reference]
            rows.append([*row, times_as_fast(ratio(each[side], each[reference])), goal_of((job, side))])
    head = ["job", "text", "code", "seconds", "against", "× as fast", "goal"]
    return f"""## Tokenizers

Byte-level BPE on the texts of lesson 01, words counted within the training. The plain loop is the page's definition,
which counts all pairs anew for each merge; tokenizers is the library, in Rust, on one thread. All learn the same merges
and find the same tokens, or the benchmark stops. Encoding begins with an empty memory of words on both sides.

{table(head, rows)}
"""


PARTS = {
    "training": (training, training_report),
    "decoding": (decoding, decoding_report),
    "tokens": (tokens, tokens_report),
    **{
        part: (
            lambda *given, part=part: apart(part).measure(*given),
            lambda *given, part=part: apart(part).report(*given),
        )
        for part in APART
    },
}


def machine_report(options):
    """What was measured on."""
    name, sets = course.processor()
    libc = " ".join(platform.libc_ver()).strip()
    versions = [
        f"{package} {metadata.version(package)}"
        for package in ("torch", "transformers", "tokenizers", "peft")
    ]
    rows = [
        ["processor", f"{name}, {course.cores()} cores for this run"],
        ["instruction sets", ", ".join(sets) or "none of note"],
        ["system", " ".join(filter(None, [platform.system(), platform.machine(), libc]))],
        ["versions", ", ".join([*versions, f"Python {platform.python_version()}"])],
        ["threads", options.threads],
        ["clock", {"wall": "wall time", "cpu": "CPU time of the process"}[options.clock]],
        ["rounds", f"{options.rounds}, and one before them that is not counted"],
    ]
    if hasattr(os, "getloadavg"):
        rows.insert(5, ["other load at the start", f"{os.getloadavg()[0]:.1f} processes"])
    return table(["", ""], rows)


def report(options, sizes, parts):
    """Measure the parts and describe them, as Markdown."""
    machine = machine_report(options)
    texts = [PARTS[part][1](PARTS[part][0](options, sizes), options, sizes) for part in parts]
    return f"""# Benchmarks

Written by `make bench`. Every contender has its own process; they take turns, each round begun by another, and a
ratio is formed within each round. Given are the median of the ratios and, in brackets, the lowest and the highest.
Above 1 means faster than the library. Peak memory counts weights, optimiser and work, over the process after its
imports. Absolute figures are this machine's; only the ratios carry over, and these only roughly.

{machine}

""" + "\n".join(texts)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m utils.bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none")
    parser.add_argument("--threads", type=int, help="default: THREADS, else 2 where there are as many cores")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5; default %(default)s")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the machinery works")
    parser.add_argument("--out", type=Path, help="where to write; default benchmarks.md if all parts run")
    parser.add_argument("--contender", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.contender:
        return contender(options.contender)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"There is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}.")
    if options.threads is None:
        options.threads = int(os.environ.get("THREADS") or min(2, course.cores()))
    options.rounds = 2 if options.quick else max(5, options.rounds)
    parts = options.parts or list(PARTS)
    try:
        text = report(options, QUICK if options.quick else FULL, parts)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    out = options.out or (None if options.parts or options.quick else OUT)
    print(text)
    if out:
        try:
            with course.atomic(out) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            print(
                f"{out.name} cannot be written ({error.strerror}): the table above is all there is.",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    from utils import bench  # the module that its parts import too, not a second copy of it

    sys.exit(bench.main())
