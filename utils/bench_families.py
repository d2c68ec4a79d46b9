"""The benchmark's part "families": each family of the zoo beside transformers' class of the same family.

Two works: a training step on the family's own task, and the states of many sentences, or of many waves where a family
hears. Run by `utils.bench`.
"""

import statistics
from functools import cache

import torch
from torch.nn import functional as F

from utils import bench, data, objectives, train, zoo
from utils.lessons import bert, bert_family, t5_and_bart
from utils.lessons.sentence_embeddings import pad_right, token_batches

REFERENCE = "transformers, float32"
SIDES = (REFERENCE, "ours, float32", "ours, bf16")
ALLOWED = {"train": 1e-2, "encode": 0.1}  # how far bf16 may be from float32, as a share; float32: 1e-4
N_TOKENS = 128  # the longest text that all families read
FRAME = 320  # samples of a wave that become one frame, as it is cut for all published ears


# ---- the same task for both: ours is the objective that `fit` takes, theirs gets the same draws as arguments


def blanks(ids, generator):
    """Holes, and what was in them: -100 is what transformers does not ask for."""
    inputs, targets = bert.mask_tokens(ids, generator, objectives.VOCAB_SIZE, objectives.MASK)
    return {"input_ids": inputs, "labels": targets.where(targets >= 0, -100)}


def paired(pairs, verdict):
    """Holes and a question about two pieces of text, whose answer transformers calls `verdict`."""

    def inputs(ids, generator):
        ids, segments, label = pairs(ids[:, :-3], generator, objectives.SEP, objectives.CLS)
        return blanks(ids, generator) | {"token_type_ids": segments, verdict: (~label).long()}

    return inputs


def strangers(ids, generator):
    """ids with every seventh token or so replaced, and where: what ELECTRA's discriminator is asked."""
    others = torch.randint(objectives.FIRST_EXTRA, objectives.VOCAB_SIZE, ids.shape, generator=generator)
    filled = ids.where(torch.rand(ids.shape, generator=generator) >= 0.15, others)
    return {"input_ids": filled, "labels": (filled != ids).long()}


def detected(model, batch, generator):
    """ELECTRA's discriminator alone: transformers has no class that trains it beside its generator."""
    given = strangers(*batch, generator)
    verdicts = model(given["input_ids"]).float()
    return F.binary_cross_entropy_with_logits(verdicts, given["labels"].float())


def permuted(ids, generator):
    """The order that `bert_family.permutation_loss` draws, as the masks of transformers' XLNet."""
    B, T = ids.shape
    order, n_given = torch.rand(B, T, generator=generator).argsort(-1), T - T // 6
    targets = order[:, n_given:]
    hidden = (~bert_family.order_mask(order, n_given)).float()
    places = F.one_hot(targets, T).float()
    return {
        "input_ids": ids,
        "perm_mask": hidden,
        "target_mapping": places,
        "labels": ids.gather(1, targets),
    }


def following(ids, generator):
    """The next token of each; the targets are shifted already."""
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    return {"input_ids": inputs, "labels": targets, "shift_labels": targets}


def spans(ids, generator):
    """T5's holes."""
    source, target = t5_and_bart.corrupt_spans(ids, generator)
    return {"input_ids": source, "labels": target}


def noise(ids, generator):
    """BART's noise."""
    source, mask = t5_and_bart.denoise(ids, generator, objectives.stops())
    return {"input_ids": source, "attention_mask": mask.long(), "labels": ids}


def letters(batch, n_frames):
    """Letters for each wave, (B, a third of its frames): what was said in it."""
    return torch.randint(1, 32, (batch, n_frames // 3), generator=torch.Generator().manual_seed(1))


def heard(model, batch, generator):
    """Letters that may stand in any frame, as long as they come in order (Graves et al. 2006)."""
    (waves,) = batch
    logits = model(waves.to(model.head.weight.dtype)).float().log_softmax(-1)
    B, T, _ = logits.shape
    said = letters(B, T)
    lengths = torch.full((B,), T), torch.full((B,), said.size(1))
    return F.ctc_loss(logits.transpose(0, 1), said, *lengths, reduction="sum")


def spoken(waves, generator):
    """The same for transformers, which counts the frames by itself."""
    return {"input_values": waves, "labels": letters(len(waves), waves.size(1) // FRAME)}


NEXT = "following", following
TASKS = {  # family: its head, our objective, theirs
    "bert": (
        "pretraining",
        "blanks and next sentences",
        paired(bert.next_sentence_pairs, "next_sentence_label"),
    ),
    "roberta": ("masked", "blanks", blanks),
    "albert": (
        "pretraining",
        "blanks and sentence order",
        paired(bert_family.sentence_order_pairs, "sentence_order_label"),
    ),
    "distilbert": ("masked", "blanks", blanks),
    "electra": ("replaced", detected, strangers),
    "xlnet": ("language", "permuted", permuted),
    **{name: ("language", *NEXT) for name in ("gpt2", "llama", "gemma2", "olmo2", "llama4_text")},
    "t5": ("language", "spans", spans),
    "bart": ("language", "noise", noise),
    "hubert": ("letters", heard, spoken),
}


def shape(sizes, family):
    """The zoo's shape; an ear gets one of its width, with a norm in each layer, so that padding is not heard."""
    if family != "hubert":
        return sizes["shape"]
    like = bert.BertConfig(**sizes["shape"])
    ear = {"widths": (like.d_model,) * 7, "wave_norm": "layer", "norm_first": True}
    ear["place_groups"] = (
        like.d_model // 16
    )  # with fewer channels in a group, torch 2.13's bf16 answer is wrong
    return ear | {name: getattr(like, name) for name in ("n_layers", "n_heads", "d_model", "d_ff")}


def new_model(sizes, family):
    """The family in the zoo's shape, its weights random but in every process the same."""
    torch.manual_seed(0)
    made = zoo.FAMILIES[family]
    return made(made.make_config(**shape(sizes, family)), head=TASKS[family][0])


def new_twin(sizes, family):
    """transformers' model with the same weights, which drops nothing and keeps nothing for later calls."""
    twin = zoo.to_transformers(new_model(sizes, family))
    for setting in ("use_cache", "use_mems_train", "use_mems_eval", "apply_spec_augment"):
        setattr(twin.config, setting, False)
    twin.config.layerdrop = 0.0
    for part in twin.modules():
        if isinstance(part, torch.nn.Dropout):  # ALBERT's has one that no setting of ours names
            part.p = 0.0
        if isinstance(getattr(part, "dropout", None), float):  # HuBERT's attention
            part.dropout = 0.0
    return twin


@cache
def sentences():
    """The sentences of the news as lists of the zoo's tokens."""
    from tokenizers import Tokenizer

    from utils.pretrain import sentences_of

    tokenizer = Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json"))
    texts = [sentence for text in data.news() for sentence in sentences_of(text)]
    return [found.ids for found in tokenizer.encode_batch(texts)]


@cache
def sounds(n):
    """n waves of half a second to two, some samples behind the last frame: noise, as only lengths matter."""
    draw = {"generator": torch.Generator().manual_seed(0)}
    lengths = torch.randint(25, 100, (n,), **draw) * FRAME + FRAME // 4
    return [torch.randn(length, **draw) for length in lengths]


def running_input(sizes, family):
    """The news as rows without gaps, ids (B, T); for an ear waves of T frames."""
    B, T = sizes["batch"], sizes["length"]
    if family == "hubert":
        return torch.randn(B, T * FRAME + FRAME // 4, generator=torch.Generator().manual_seed(0))
    ids = [i for sentence in sentences() for i in sentence]
    return torch.tensor(ids[: B * T]).view(B, T)


def rows_of(sizes, family):
    """What is encoded: sentences of at most N_TOKENS tokens, or waves; and how many states each gets."""
    if family == "hubert":
        rows = sounds(sizes["sentences"])
        return rows, [len(row) // FRAME for row in rows]
    rows = [row[:N_TOKENS] for row in sentences()[: sizes["sentences"]]]
    return rows, [len(row) for row in rows]


def training_step(sizes, family, side):
    """A function that takes one training step and returns its loss, as a list."""
    _, objective, reference = TASKS[family]
    objective = objectives.OBJECTIVES.get(objective, objective)
    batch, draw = (running_input(sizes, family),), lambda: torch.Generator().manual_seed(0)
    if side == REFERENCE:
        twin, given = new_twin(sizes, family).train(), reference(*batch, draw())
        step = bench.plain_step(twin, lambda: twin(**given).loss)
        return lambda: [step()]
    model = new_model(sizes, family).train()
    if side == "ours, float32":
        step = bench.plain_step(model, lambda: objective(model, batch, draw()))
        return lambda: [step()]
    mixed, adamw = train.MixedPrecision(model), [torch.optim.AdamW(model.parameters(), fused=True)]
    return lambda: [train.train_step(mixed, adamw, batch, rate=1e-4, objective=objective)]


def our_states(model, ids, mask):
    """States (B, T, D) of ids (B, T) or of waves; of an encoder-decoder those of the encoder."""
    ids = ids.to(next(model.parameters()).dtype) if ids.is_floating_point() else ids
    return model.encode(ids, mask)[0] if hasattr(model, "encode") else model.hidden(ids, mask)


def reference_states(twin, ids, mask):
    """The same by transformers."""
    body = getattr(twin, "model", twin.base_model)  # Llama 4 calls itself its base
    body = twin.get_encoder() if twin.config.is_encoder_decoder else body
    return body(ids, attention_mask=None if mask is None else mask.long()).last_hidden_state


def encoding(sizes, family, side):
    """A function that returns the states (T, D) of each sentence, in the order given."""
    rows, lengths = rows_of(sizes, family)
    numbers = range(len(rows))
    if side == REFERENCE:
        model, states = new_twin(sizes, family), reference_states
        batches = [numbers[first : first + 32] for first in numbers[::32]]
    else:
        model, states = new_model(sizes, family).eval(), our_states
        model = model.to(torch.bfloat16 if side == "ours, bf16" else torch.float32)
        batches = None

    @torch.no_grad()
    def work():
        found = [None] * len(rows)
        for batch in batches or token_batches(lengths, budget=2048):
            block = states(model, *pad_right([rows[i] for i in batch]))
            for i, row in zip(batch, block, strict=True):
                found[i] = row[: lengths[i]]
        return found

    return work


def brief(result):
    """A list of losses as it is; of each sentence's states (T, D) a sum with random factors, that shows any change."""
    if not isinstance(result[0], torch.Tensor):
        return result
    factors = torch.randn(N_TOKENS, result[0].size(1), generator=torch.Generator().manual_seed(0))
    return [(states.float() * factors[: len(states)]).sum().item() for states in result]


WORKS = {"train": training_step, "encode": encoding}


def worker(sizes, side):
    """A function line → work, for lines like "train bert"; it keeps one work only."""

    def make(line):
        what, family = line.split()
        return WORKS[what](sizes["families"], family, side)

    return bench.last_kept(make)


# ---- what the parent does


def check(job, answers):
    """In the uncounted round all must have found the same."""
    expected = torch.tensor(answers[REFERENCE][0]["result"])
    for side, given in answers.items():
        off = ((torch.tensor(given[0]["result"]) - expected).norm() / expected.norm()).item()
        if not off <= (ALLOWED[job.split()[0]] if "bf16" in side else 1e-4):
            raise bench.Trouble(
                f"{job}: what “{side}” finds is {off:.1e} from what transformers finds: they do not do the same."
            )


def measure(options, sizes):
    """Each family at each work."""
    jobs = [f"{what} {family}" for what in WORKS for family in names(sizes)]
    return bench.jobs_in_turns("families", SIDES, jobs, check, options, sizes, bench.KEPT)


def names(sizes):
    """The families that are measured."""
    return sizes["families"]["names"] or list(TASKS)


def n_states(sizes, what, family):
    """How many tokens (or frames) one round of a work has."""
    here = sizes["families"]
    return here["batch"] * here["length"] if what == "train" else sum(rows_of(here, family)[1])


def ratios_table(found, options, what, sizes):
    """One row for each family, then the lowest and the median of the column, then the goals."""
    rows, middles = [], {side: [] for side in SIDES[1:]}
    for family in names(sizes):
        answers = found[f"{what} {family}"]
        theirs = bench.times(answers[REFERENCE], options.clock)
        row = [family, f"{n_states(sizes, what, family) / statistics.median(theirs):,.0f}"]
        for side in SIDES[1:]:
            each = bench.ratio(bench.times(answers[side], options.clock), theirs)
            middles[side].append(each[0])
            row.append(bench.times_as_fast(each))
        rows.append([*row, ""])
    for name, of in {"lowest": min, "median": statistics.median}.items():
        found_in_all = [f"**{of(each):.2f}**" for each in middles.values()]
        rows.append([f"**{name}**", "", *found_in_all, bench.goal_of((what, name))])
    head = ["family", "transformers tokens/s", *(f"× as fast: {side}" for side in SIDES[1:]), "goal, bf16"]
    return bench.table(head, rows)


def report(found, options, sizes):
    """Both tables."""
    here = sizes["families"]
    lengths = rows_of(here, "bert")[1]
    return f"""## Families

Every family in the zoo's shape beside transformers' class of the same family: same weights, same text, same task.
transformers computes in float32, with sdpa where the family has it, without dropout and cache. Ours is given in float32
and in bf16. Freed memory is kept (glibc) on all sides, as in the second table of training steps.

A training step on the family's own task, batch {here["batch"]} × {here["length"]} tokens. Fused AdamW on all sides; in
bf16 the weights that learn stay float32, as in `fit` (which takes Muon for the matrices besides). Encoders that fill
holes ask their head about the holes alone, transformers' classes ask it everywhere. ELECTRA is its discriminator;
DistilBERT fills holes without a teacher; HuBERT, whose tokens are frames of 20 ms of a wave, writes letters (CTC). The
first losses are equal in float32, or the benchmark stops.

{ratios_table(found, options, "train", sizes)}

The states of {len(lengths)} sentences of the news, {sum(lengths) / len(lengths):.0f} tokens long in the mean, without
gradients; of encoder-decoders the encoder's; for HuBERT as many waves of half a second to two. Ours are sorted by
length, in batches of at most 2,048 tokens with their padding; transformers gets 32 at a time in the order given. The
states are equal in float32, or the benchmark stops.

{ratios_table(found, options, "encode", sizes)}
"""
