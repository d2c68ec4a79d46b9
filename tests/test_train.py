"""The training loop: the loss equals torch's, a killed run goes on as if nothing happened, several processes agree."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from utils import course, train
from utils.lessons.gpt import GPT, GPTConfig

ROOT = Path(__file__).resolve().parents[1]
TINY = GPTConfig(vocab_size=61, n_positions=16, n_layers=2, n_heads=2, d_model=16)
RUN = """
import os, sys, torch
from utils import train
from utils.lessons.gpt import GPT, GPTConfig

def batches(step):
    ids = torch.randint(61, (4, 17), generator=torch.Generator().manual_seed(step))
    return ids[:, :-1], ids[:, 1:]

def run(folder, steps, seconds, out):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = GPT(GPTConfig(vocab_size=61, n_positions=16, n_layers=2, n_heads=2, d_model=16))
    sys.stdout = sys.stderr
    log = train.fit(model, batches, int(steps), folder, seconds=float(seconds), warmup=5)
    if train.rank() == 0:
        torch.save([model.state_dict(), [entry["loss"] for entry in log]], out)

if sys.argv[1:]:
    run(*sys.argv[1:])
for line in [] if sys.argv[1:] else sys.stdin:  # a process for each line: its number, then how it ended
    if (child := os.fork()) == 0:
        run(*line.rstrip("\\n").split("\\t"))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Runner:
    """Runs of `fit`, each in a process of its own, begun by one that has imported torch once and trains nothing."""

    def __init__(self, folder):
        self.script = folder / "run.py"
        self.script.write_text(RUN)
        self.process = self.open(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def open(self, *words, launcher=(), **pipes):
        command = [sys.executable, *launcher, str(self.script), *map(str, words)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL, **pipes)

    def start(self, *words):
        """Begin a run: folder, steps, seconds between checkpoints, file of the result; the process's number."""
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self):
        """How the run ended that was begun last: 0 if well."""
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runs"))
    yield runner
    runner.process.stdin.close()
    runner.process.wait()


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunked_loss_and_gradients_equal_torch(chunk):
    torch.manual_seed(chunk)
    hidden, weight = torch.randn(50, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(11, (50,))
    targets[::9] = -100
    ours = train.ChunkedCrossEntropy.apply(hidden, weight, targets, chunk)
    theirs = F.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(ours, theirs)
    ours_grads = torch.autograd.grad(3 * ours, (hidden, weight))
    torch.testing.assert_close(ours_grads, torch.autograd.grad(3 * theirs, (hidden, weight)))


def test_chunked_loss_of_a_frozen_head():
    """Who asks for no gradient of the weights gets none, and the same one of the states."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 8, requires_grad=True), torch.randn(11, 8)
    targets = torch.randint(11, (50,))
    ours = train.ChunkedCrossEntropy.apply(hidden, weight, targets, 7)
    theirs = F.cross_entropy(hidden @ weight.T, targets)
    ours_grads = torch.autograd.grad(ours, hidden)
    torch.testing.assert_close(ours_grads, torch.autograd.grad(theirs, hidden))


def test_chunked_loss_of_nothing_is_zero():
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    loss = train.ChunkedCrossEntropy.apply(hidden, weight, torch.full((5,), -100), 2)
    loss.backward()
    assert loss == 0 and not hidden.grad.any() and not weight.grad.any()


def test_cosine_rises_then_falls():
    rates = [train.cosine(step, 100, warmup=10, floor=0.1) for step in range(101)]
    assert rates[0] == 0.1 and rates[10] == 1.0 and math.isclose(rates[100], 0.1)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_fit_learns_a_rule():
    torch.manual_seed(0)
    model = GPT(TINY)

    def batches(step):
        start = torch.randint(61, (8, 1), generator=torch.Generator().manual_seed(step))
        ids = (start + 7 * torch.arange(17)) % 61
        return ids[:, :-1], ids[:, 1:]

    log = train.fit(model, batches, 150, rate=1e-2, warmup=10, evaluate=lambda m: {"scored": True}, every=100)
    assert log[0]["loss"] > 3.5 and log[-1]["loss"] < 0.5
    assert [entry["step"] for entry in log if "scored" in entry] == [100, 150]


def test_muon_takes_inner_matrices_only():
    muon, adamw = train.make_optimizers(GPT(TINY))
    assert {p.shape for group in muon.param_groups for p in group["params"]} == {
        (48, 16),
        (16, 16),
        (64, 16),
        (16, 64),
    }
    total = sum(p.numel() for optimizer in (muon, adamw) for g in optimizer.param_groups for p in g["params"])
    assert total == sum(p.numel() for p in GPT(TINY).parameters())


def test_killed_run_goes_on_to_the_same_weights(runner, tmp_path):
    steps, kills, rng = 150, 0, random.Random(0)
    runner.start(tmp_path / "whole", steps, 1e9, tmp_path / "whole.pt")
    assert runner.ended() == 0
    while not (tmp_path / "cut.pt").exists():
        process = runner.start(tmp_path / "cut", steps, 0.05, tmp_path / "cut.pt")
        began = time.monotonic()
        while kills < 3 and time.monotonic() - began < 60 and not list((tmp_path / "cut").glob("step-*.pt")):
            time.sleep(0.01)
        if kills < 3:
            time.sleep(rng.uniform(0, 0.15))
            os.kill(process, signal.SIGKILL)
            kills += runner.ended() == signal.SIGKILL
            assert kills and train.newest(tmp_path / "cut")["step"] > 0
        else:
            assert runner.ended() == 0
    (whole, losses), (cut, cut_losses) = torch.load(tmp_path / "whole.pt"), torch.load(tmp_path / "cut.pt")
    assert kills == 3 and cut_losses == losses and len(losses) == steps
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_broken_checkpoint_is_passed_over(tmp_path, capsys):
    model = GPT(TINY)
    optimizers = train.make_optimizers(model)
    train.save(tmp_path, 10, model, optimizers, [])
    train.save(tmp_path, 20, model, optimizers, [])
    whole = (tmp_path / "step-000020.pt").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"<html>not found</html>"):
        (tmp_path / "step-000020.pt").write_bytes(damaged)
        assert train.newest(tmp_path)["step"] == 10
    assert "step-000020.pt cannot be read" in capsys.readouterr().out


def test_only_two_checkpoints_are_kept(tmp_path):
    model = GPT(TINY)
    for step in (1, 2, 3, 4):
        train.save(tmp_path, step, model, train.make_optimizers(model), [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003.pt", "step-000004.pt"]


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError), course.atomic(tmp_path / "a") as path:
        path.write_text("half")
        raise OSError("no space left")
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_two_processes_learn_as_one(runner, tmp_path):
    runner.start(tmp_path / "one", 20, 1e9, tmp_path / "one.pt")
    assert runner.ended() == 0
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert runner.open(tmp_path / "two", 20, 1e9, tmp_path / "two.pt", launcher=two).wait(180) == 0
    one, _ = torch.load(tmp_path / "one.pt")
    both, _ = torch.load(tmp_path / "two.pt")
    torch.manual_seed(0)
    start = GPT(TINY).state_dict()
    moved = sum((one[name] - start[name]).norm() for name in one)
    apart = sum((one[name] - both[name]).norm() for name in one)
    assert apart < 0.1 * moved  # bf16 sums in another order


@pytest.mark.parametrize("T", [1, 7, 64])
def test_attention_written_out_equals_the_fused_kernel(T):
    """In bf16 with gradients the formula is written out: same values, same gradients, to bf16's rounding."""
    torch.manual_seed(T)
    mix = GPT(TINY).blocks[0].attention.mix
    q, k, v = (torch.randn(2, 3, T, 16, requires_grad=True) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    gradients = torch.autograd.grad(expected.square().sum(), (q, k, v))
    ours = mix(q.bfloat16(), k.bfloat16(), v.bfloat16(), None)
    ours_back = torch.autograd.grad(ours.float().square().sum(), (q, k, v))
    torch.testing.assert_close(ours.float(), expected, rtol=0.02, atol=0.03)
    mine, theirs = torch.stack(ours_back), torch.stack(gradients)
    assert (mine - theirs).norm() <= 0.02 * theirs.norm()
