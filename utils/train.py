"""The training loop of the course: bf16 arithmetic, float32 weights, a loss that never holds all logits."""

import ctypes
import json
import math
import os
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from utils.course import atomic


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of softmax(hidden @ weight.T), computed chunk by chunk.

    The logits of a batch, tokens × vocabulary, are most of a small model's memory traffic. Here only `chunk` rows of
    them exist at a time, and the gradient is formed while they are there.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, chunk):
        d_hidden, d_weight = torch.zeros_like(hidden), None
        if ctx.needs_input_grad[1]:  # a frozen head needs none
            d_weight = torch.zeros(weight.shape, device=weight.device)
        kept = (targets >= 0).nonzero()[:, 0]
        total = torch.zeros((), device=hidden.device)
        for rows in kept.split(chunk):
            states, target = hidden[rows], targets[rows, None]
            p = (states @ weight.T).softmax(-1, dtype=torch.float32)
            p_target = p.gather(1, target)
            total -= p_target.clamp_min(1e-30).log().sum()
            d_logits = p.scatter_(1, target, p_target - 1).to(hidden.dtype)
            d_hidden[rows] = d_logits @ weight
            if d_weight is not None:
                d_weight += d_logits.T @ states
        ctx.save_for_backward(d_hidden, None if d_weight is None else d_weight.to(weight.dtype))
        ctx.n = max(1, len(kept))
        return total / ctx.n

    @staticmethod
    def backward(ctx, grad):
        d_hidden, d_weight = ctx.saved_tensors
        scale = grad / ctx.n
        d_weight = None if d_weight is None else d_weight * scale.to(d_weight.dtype)
        return d_hidden * scale.to(d_hidden.dtype), d_weight, None, None


def token_loss(model, inputs, targets, chunk=512):
    """Mean cross entropy in nats of `targets` (B, T) given token ids `inputs` (B, T); targets below 0 do not count."""
    hidden = model.hidden(inputs)
    return ChunkedCrossEntropy.apply(hidden.flatten(0, 1), model.head.weight, targets.flatten(), chunk)


def cosine(step, steps, warmup=100, floor=0.0):
    """The share of the full learning rate at `step`: a straight rise, then half a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_optimizers(model, rate=4e-3, weight_decay=0.05, outer=1):
    """Muon for the matrices between the layers, AdamW for embeddings, norms and biases, at `outer` times the rate.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; rates matched to AdamW's.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.RNNBase)
        for p in m.parameters()
        if p.ndim == 2
    }
    inner, others = [], []
    for name, p in model.named_parameters():
        is_inner = id(p) in matrices - tables and not name.endswith("head.weight")
        (inner if is_inner else others).append(p)
    muon = torch.optim.Muon(inner, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    rest = [{"params": others, "times": outer}]
    return [muon, torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


class MixedPrecision:
    """A bf16 copy of the model computes; the float32 model learns, so that small updates are not rounded away."""

    def __init__(self, model):
        self.model, self.copy = model, deepcopy(model).to(torch.bfloat16)
        self.pairs = list(zip(model.parameters(), self.copy.parameters(), strict=True))

    def collect(self):
        """Move the copy's gradients to the model, averaged over all processes."""
        for p, q in self.pairs:
            p.grad, q.grad = None if q.grad is None else q.grad.float(), None
            if p.grad is not None and dist.is_initialized():
                dist.all_reduce(p.grad)
                p.grad /= dist.get_world_size()

    @torch.no_grad()
    def refresh(self):
        """Round the model's weights into the copy."""
        for p, q in self.pairs:
            q.copy_(p)


def rank():
    """This process's number among those that train together; 0 where one trains alone."""
    return int(os.environ.get("RANK", 0))


def world():
    """How many processes train together (accelerate launch and torchrun say it)."""
    return int(os.environ.get("WORLD_SIZE", 1))


def device():
    """Where this process computes: its own accelerator, or the processor."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def keep_memory():
    """Let this process keep the memory of freed tensors; returned to the system, it comes back page by page."""
    with suppress(OSError, AttributeError):  # only glibc knows these switches
        set_option = ctypes.CDLL("libc.so.6").mallopt
        set_option(-4, 0)  # M_MMAP_MAX: large arrays come from the heap too
        set_option(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the heap does not shrink


class CheckpointError(RuntimeError):
    """Says in one sentence why a run cannot go on from the checkpoint in its folder, and what to do."""


def newest(folder):
    """The newest checkpoint in `folder` that loads, or None. Checkpoints are read only where this run wrote them."""
    for path in sorted(Path(folder).glob("step-*.pt"), reverse=True):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return {part: state[part] for part in ("step", "log", "model", "optimizers")}
        except Exception as error:
            print(f"{path.name} cannot be read ({type(error).__name__}): the one before it is used.")
    return None


def misfit(state, model):
    """Why a checkpoint is not one of this model, in a few words; "" if it is one."""
    wanted, found = model.state_dict(), state["model"]
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted:
            return f"{'lacks' if name not in found else 'also holds'} {name}"
        if found[name].shape != wanted[name].shape:
            return (
                f"holds {name} as {tuple(found[name].shape)}, and the model has {tuple(wanted[name].shape)}"
            )
        if found[name].is_floating_point() and not found[name].isfinite().all():
            return f"holds values in {name} that are not numbers"
    return ""


def save(folder, step, model, optimizers, log, keep=2):
    """Write a checkpoint and remove all but the newest `keep`."""
    state = {"step": step, "log": json.dumps(log), "model": model.state_dict()}
    with atomic(Path(folder) / f"step-{step:06d}.pt") as path:
        torch.save(state | {"optimizers": [o.state_dict() for o in optimizers]}, path)
    for old in sorted(Path(folder).glob("step-*.pt"))[:-keep]:
        old.unlink()


def resume(folder, model, optimizers):
    """Fill model and optimizers from the newest checkpoint in `folder`; return its step and log, or 0 and [].

    Raises CheckpointError before anything is filled where the checkpoint is none of this model.
    """
    if folder is None or (state := newest(folder)) is None:
        return 0, []
    if reason := misfit(state, model):
        raise CheckpointError(
            f"The checkpoint of step {state['step']} in {folder} {reason}: give another folder, or delete this one "
            "to start again."
        )
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], json.loads(state["log"])


def predict_next(model, batch, generator):
    """The objective of a language model: the loss of (inputs, targets); nothing is drawn."""
    return token_loss(model, *batch)


def train_step(mixed, optimizers, batch, rate, clip=1.0, objective=predict_next, seed=0):
    """One update of `mixed.model` on one batch (a tuple of tensors) at learning rate `rate`; returns the loss.

    objective: (model, batch, generator) → the loss; what it draws comes from `generator`, which starts at `seed`
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("times", 1)
    mixed.refresh()
    loss = objective(mixed.copy, batch, torch.Generator(batch[0].device).manual_seed(seed))
    loss.backward()
    mixed.collect()
    torch.nn.utils.clip_grad_norm_(mixed.model.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def fit(
    model,
    batches,
    steps,
    folder=None,
    rate=4e-3,
    warmup=100,
    evaluate=None,
    every=250,
    seconds=300,
    objective=predict_next,
    outer=1,
):
    """Train `model` on `batches(step) -> tuple of tensors` for `steps` steps and return the log, a list of dicts.

    folder    where checkpoints are kept; an interrupted run in the same folder goes on where it stood
    objective what is learned, see `train_step`; the next token unless it says otherwise
    evaluate  called as evaluate(model) every `every` steps and at the end; its dict joins the log
    seconds   time between checkpoints
    outer     how many times the rate embeddings, norms and biases learn at
    Several processes (accelerate launch, torchrun) share each batch; the stop button leaves the model usable.
    """
    if world() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    keep_memory()
    place, first = next(model.parameters()).device, rank() == 0
    optimizers, mixed = make_optimizers(model, rate, outer=outer), MixedPrecision(model)
    start, log = resume(folder, model, optimizers)
    if start and first:
        print(f"Going on after step {start} of {steps}, where the run in {folder} stopped.", flush=True)
    saved_at = time.monotonic()
    for step in range(start, steps):
        began, last = time.monotonic(), step + 1 == steps
        batch = tuple(ids[rank() :: world()].to(place) for ids in batches(step))
        now = rate * cosine(step, steps, warmup)
        loss = train_step(mixed, optimizers, batch, now, objective=objective, seed=step * world() + rank())
        took = time.monotonic() - began
        log.append({"step": step + 1, "loss": round(loss, 4), "seconds": round(took, 3)})
        if evaluate and first and (last or (step + 1) % every == 0):
            log[-1] |= evaluate(model)
        if folder and first and (last or (step + 1) % 20 == 0):
            print(f"{step + 1} of {steps}:", *(f"{k} {v}" for k, v in log[-1].items()), flush=True)
        if folder and first and (last or time.monotonic() - saved_at > seconds):
            save(folder, step + 1, model, optimizers, log)
            saved_at = time.monotonic()
    return log
