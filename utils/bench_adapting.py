"""The benchmark's part "adapting": LoRA and full finetuning, beside peft and transformers' Trainer.

Two models learn: the zoo's GPT the next tokens of the news, an encoder of MiniLM's shape to judge reviews. Each learns
in two ways, with all its weights or with LoRA alone. Run by `utils.bench`.
"""

import statistics
import tempfile

import torch
from torch import nn
from torch.nn import functional as F

from utils import bench, data, train, zoo
from utils.lessons.bert import BERT, BertConfig
from utils.lessons.finetuning import Classifier
from utils.lessons.gpt import GPT, GPTConfig
from utils.lessons.parameter_efficient import add_lora, learned
from utils.lessons.sentence_embeddings import SentenceEncoder, mean_pool, pad_right, token_batches

REFERENCE = "transformers’ Trainer, float32"
SIDES = (REFERENCE, "ours, float32", "ours, bf16")
ALLOWED = {  # how far a loss may be from the reference, as a share: at the first step, then while rounding feeds back
    REFERENCE: (0, 0),
    "ours, float32": (1e-4, 1e-4),
    "ours, bf16": (1e-2, 5e-2),
}
RATE, RANK, ALPHA = 1e-4, 8, 16
WAYS = "full", "LoRA"
MINILM = {
    "vocab_size": 30522,
    "n_positions": 512,
    "n_layers": 6,
    "n_heads": 12,
    "d_model": 384,
    "d_ff": 1536,
}
WHERE = {  # model: what LoRA is put on, in our names and in theirs
    "gpt": (("qkv", "out"), ["c_attn", "attn.c_proj"]),
    "encoder": (("out", "up", "down"), ["attention.output.dense", "intermediate.dense", "output.dense"]),
}


# ---- the models and what they learn: the same in every process


def new_gpt(sizes):
    """A GPT with random weights."""
    torch.manual_seed(0)
    return GPT(GPTConfig(**sizes["shape"]))


def new_classifier(sizes):
    """An encoder of MiniLM's shape with random weights, and two classes."""
    torch.manual_seed(0)
    body = BERT(BertConfig(**(MINILM | sizes["shape"])))
    return Classifier(SentenceEncoder(body, data.minilm_tokenizer()), 2)


class Twin(nn.Module):
    """transformers' encoder, the mean of its real states, and a head: what Trainer trains."""

    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, input_ids, attention_mask, labels):
        states = self.body(input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask[..., None].to(states.dtype)
        logits = self.head((states * real).sum(1) / real.sum(1))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def token_rows(sizes):
    """The news as rows without gaps, ids (steps × B, T + 1)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json"))
    n_tokens = GPTConfig(**sizes["shape"]).vocab_size
    shape = sizes["steps"] * sizes["batch"], sizes["length"] + 1
    ids = [i % n_tokens for text in data.news() for i in tokenizer.encode(text).ids]
    return torch.tensor(ids[: shape[0] * shape[1]]).view(shape)


def review_rows(sizes):
    """Reviews as rows of ids, as they come, and their labels."""
    tokenizer = data.minilm_tokenizer()
    n_tokens = (MINILM | sizes["shape"])["vocab_size"]
    rows = data.reviews(kind="plain", split="train")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [rows[i] for i in order[: sizes["steps"] * sizes["batch"]]]
    return [[i % n_tokens for i in tokenizer.encode(row.text).ids] for row in rows], [r.label for r in rows]


def adapt(model, model_name):
    """LoRA on our model; a head that is new learns, too."""
    add_lora(model if model_name == "gpt" else model.body, RANK, ALPHA, WHERE[model_name][0])


# ---- ours


def our_work(sizes, model_name, way, side):
    """A function that takes some training steps and returns their losses."""
    train.keep_memory()
    if model_name == "gpt":
        model, ids = new_gpt(sizes).train(), token_rows(sizes)
        batches = [
            (rows[:, :-1].contiguous(), rows[:, 1:].contiguous()) for rows in ids.split(sizes["batch"])
        ]
        objective = train.predict_next
    else:
        model, (rows, labels) = new_classifier(sizes).train(), review_rows(sizes)
        batches = [
            (torch.tensor(labels[first : first + sizes["batch"]]), rows[first : first + sizes["batch"]])
            for first in range(0, len(rows), sizes["batch"])
        ]
        objective = verdict_loss
    if way == "LoRA":
        adapt(model, model_name)
    if side == "ours, float32":
        step = bench.plain_step(model, lambda *batch: objective(model, batch, None), weight_decay=0.0)
        return lambda: [step(*batch) for batch in batches]
    adamw = [torch.optim.AdamW(learned(model), weight_decay=0.0, fused=True)]
    mixed = train.MixedPrecision(model)
    return lambda: [
        train.train_step(mixed, adamw, batch, rate=RATE, objective=objective) for batch in batches
    ]


def verdict_loss(model, batch, generator):
    """Mean cross entropy of a batch (labels, rows); rows of like length are computed together."""
    labels, rows = batch
    lengths = [len(row) for row in rows]
    total = 0.0
    for group in token_batches(lengths, max(lengths) * len(rows) // 2):
        ids, mask = pad_right([rows[i] for i in group])
        states = model.body.model.hidden(ids, mask)
        logits = model.head(mean_pool(states.float(), mask).to(states.dtype))
        total = total + F.cross_entropy(logits.float(), labels[group], reduction="sum")
    return total / len(rows)


# ---- theirs


def reference_work(sizes, model_name, way):
    """The same by peft and transformers' Trainer: its defaults, without dropout, reports and checkpoints."""
    import transformers

    settings = transformers.TrainingArguments(
        output_dir=tempfile.gettempdir(),
        max_steps=sizes["steps"],
        per_device_train_batch_size=sizes["batch"],
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        train_sampling_strategy="sequential",
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    make = reference_gpt if model_name == "gpt" else reference_classifier
    model, rows, collate = make(sizes, way)
    losses = []
    model.register_forward_hook(lambda module, given, found: losses.append(found["loss"].detach()))
    trainer = transformers.Trainer(model, settings, train_dataset=rows, data_collator=collate)
    trainer.remove_callback(transformers.PrinterCallback)

    def work():
        losses.clear()
        trainer.train()
        return [loss.item() for loss in losses]

    return work


def with_peft(twin, model, model_name):
    """peft's LoRA on transformers' model, its random half that of ours, `model`."""
    from peft import LoraConfig, get_peft_model

    adapt(model, model_name)
    targets = WHERE[model_name][1]
    settings = {"r": RANK, "lora_alpha": ALPHA, "fan_in_fan_out": model_name == "gpt"}
    twin = get_peft_model(twin, LoraConfig(target_modules=targets, **settings))
    ours = [p for name, p in model.named_parameters() if name.endswith((".a", ".b"))]
    with torch.no_grad():
        for p, q in zip(ours, learned(twin), strict=True):
            q.copy_(p)
    return twin


def reference_gpt(sizes, way):
    """transformers' GPT-2, rows and how they are put together."""
    model = new_gpt(sizes)
    twin = zoo.to_transformers(model)
    twin.config.use_cache = False
    ids = token_rows(sizes)
    labels = ids.clone()
    labels[:, 0] = -100  # nothing is asked about the first token, on either side
    rows = [{"input_ids": i, "labels": label} for i, label in zip(ids, labels)]
    return with_peft(twin, model, "gpt") if way == "LoRA" else twin, rows, None


def reference_classifier(sizes, way):
    """The same of an encoder with a head, padded to the longest row of each batch."""
    model = new_classifier(sizes)
    body = zoo.to_transformers(model.body.model)
    if way == "LoRA":
        body = with_peft(body, model, "encoder")

    def collate(given):
        ids, mask = pad_right([row["input_ids"] for row in given])
        mask = torch.ones_like(ids) if mask is None else mask.long()
        labels = torch.tensor([row["labels"] for row in given])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    rows = [{"input_ids": row, "labels": label} for row, label in zip(*review_rows(sizes))]
    return Twin(body, model.head), rows, collate


def worker(sizes, side):
    """A function line → work, for lines like "gpt LoRA"; it keeps one work only."""

    def make(line):
        model_name, way = line.split()
        here = sizes["adapting"][model_name]
        if side == REFERENCE:
            return reference_work(here, model_name, way)
        return our_work(here, model_name, way, side)

    return bench.last_kept(make)


# ---- what the parent does


def check(job, answers):
    """In the uncounted round all must have found the same losses, at every step.

    In bf16 only the first step is held to the same 1e-2 as elsewhere: after it weights that were rounded learn on, and
    the losses drift apart (4e-4 to 1.3e-2 over ten steps of the encoder).
    """
    expected = torch.tensor(answers[REFERENCE][0]["result"])
    for side, given in answers.items():
        found = torch.tensor(given[0]["result"])
        at_first, later = ALLOWED[side]
        same_number = len(found) == len(expected)
        off = (found - expected).abs() / expected if same_number else torch.full_like(expected, torch.nan)
        if not (off[0] <= at_first and (off[1:] <= later).all()):
            raise bench.Trouble(
                f"{job}: the losses of “{side}” are up to {off.max():.1e} from those of transformers: "
                "they do not do the same."
            )


def jobs():
    """What is measured: each model in each way."""
    return [f"{model} {way}" for model in WHERE for way in WAYS]


def measure(options, sizes):
    """Each model in each way."""
    return bench.jobs_in_turns("adapting", SIDES, jobs(), check, options, sizes, before="adapting ")


def report(found, options, sizes):
    """The table."""
    rows = []
    for job, answers in found.items():
        model, way = job.split()
        theirs = bench.times(answers[REFERENCE], options.clock)
        per_step = statistics.median(theirs) / sizes["adapting"][model]["steps"]
        row = [model, way, f"{per_step * 1000:,.0f}"]
        row += [
            bench.times_as_fast(bench.ratio(bench.times(answers[side], options.clock), theirs))
            for side in SIDES[1:]
        ]
        row += [bench.goal_of(("adapting", way))]
        rows.append(row + [bench.mb(max(answer["peak"] for answer in given)) for given in answers.values()])
    head = ["model", "what learns", "Trainer, ms a step", *(f"× as fast: {side}" for side in SIDES[1:])]
    head += ["goal", *(f"peak MB: {side}" for side in SIDES)]
    gpt, encoder = sizes["adapting"]["gpt"], sizes["adapting"]["encoder"]
    return f"""## Adapting

Training steps of the course's GPT on news (batch {gpt["batch"]} × {gpt["length"]} tokens) and of an encoder of MiniLM's
shape that judges reviews ({encoder["batch"]} a batch, as they come), with all weights or with LoRA of rank {RANK}. The
reference is transformers' model, with peft's LoRA, in transformers' Trainer: same weights, same batches, float32,
fused AdamW, gradients clipped, no dropout. Each round is {gpt["steps"]} steps, what Trainer does around them included.
The losses of all steps are equal (in bf16 to 1e-2 at the first step, then to 5e-2), or the benchmark stops. Ours asks
glibc to keep freed memory, as `fit` does, and computes the reviews of a batch in groups of like length.

{bench.table(head, rows)}
"""
