"""The benchmark's machinery: who takes turns, what is compared, what stops it. Speed itself is never tested."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils import bench, bench_adapting, bench_families, zoo

ROOT = Path(__file__).resolve().parents[1]


def answer(seconds, result=0.0):
    return {"wall": seconds, "cpu": 10 * seconds, "faults": 1, "peak": 2**20, "result": result}


class Scripted:
    """A contender that notes when it was asked and needs as many seconds as it is told."""

    def __init__(self, name, seconds, log):
        self.name, self.seconds, self.log = name, iter(seconds), log

    def ask(self):
        self.log.append(self.name)
        return answer(next(self.seconds))


def test_everyone_works_once_a_round_and_another_begins_each_time():
    log = []
    ready = {name: Scripted(name, range(9), log) for name in "abc"}
    answers = bench.take_turns(ready, rounds=3)
    assert "".join(log) == "abcbcacababc"
    assert bench.times(answers["b"], "wall") == [1, 2, 3]  # the first round is not counted
    assert bench.times(answers["b"], "cpu") == [10, 20, 30]


def test_a_ratio_is_formed_within_each_round():
    ours, theirs = [1.0, 2.0, 10.0], [3.0, 4.0, 10.0]  # the third round was slow for both
    assert bench.ratio(ours, theirs) == (2.0, 1.0, 3.0)


def test_other_losses_stop_it():
    losses = {bench.REFERENCE: 8.0, "ours, float32, AdamW": 8.0005, "ours, bf16, AdamW": 8.05}
    answers = lambda **other: {name: [answer(1, other.get(name, loss))] for name, loss in losses.items()}
    bench.check_losses(answers())
    for name, loss in (
        ("ours, float32, AdamW", 8.01),
        ("ours, bf16, AdamW", 8.2),
        ("ours, bf16, AdamW", float("nan")),
    ):
        with pytest.raises(bench.Trouble, match=name):
            bench.check_losses(answers(**{name: loss}))


def test_other_texts_stop_it():
    answers = {side: [answer(1, [[1, 2], [3, 4]])] for side in bench.SIDES}
    bench.check_texts("greedy", answers)
    answers["ours, bf16"] = [answer(1, [[1, 2], [3, 9]])]  # bf16 may differ
    bench.check_texts("greedy", answers)
    answers["ours, float32"] = [answer(1, [[1, 2], [3, 9]])]
    bench.check_texts("top-p 0.9", answers)  # and so may chance
    with pytest.raises(bench.Trouble, match="only 1 of 2"):
        bench.check_texts("greedy", answers)


def test_peak_memory_is_that_of_the_work():
    """64 MB held and given back show as 64 MB; 256 MB before the work do not show."""
    code = """
import sys
from utils import bench
baseline = bench.memory()
before = bytearray(256 << 20); before[::4096] = b"x" * len(before[::4096]); del before
def work():
    held = bytearray(64 << 20); held[::4096] = b"x" * len(held[::4096])
bench.serve(work, baseline, sys.stdin, sys.stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input="go\ngo\n", capture_output=True, text=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2, done.stderr
    if Path("/proc/self/clear_refs").exists():
        assert all(60 < one["peak"] / 2**20 < 90 for one in answers)
    assert all(one["faults"] > 0 for one in answers)


def test_a_contender_that_dies_says_why():
    with bench.contenders({}) as ready:
        assert ready == {}
    order = {"part": "training", "name": ["no such contender"], "sizes": bench.QUICK, "threads": 1}
    with pytest.raises(bench.Trouble, match="no such contender.*KeyError"):
        with bench.contenders({"one": order}):
            pass


def test_goals_name_contenders_that_exist():
    works = {tuple(work) for work in bench.FULL["work"]}
    jobs = {(job, side) for job, (_, _, sides) in bench.FULL["jobs"].items() for side in sides}
    families = {(what, of) for what in bench_families.WORKS for of in ("lowest", "median")}
    ways = {("adapting", way) for way in bench_adapting.WAYS}
    known = works | jobs | families | ways
    assert all(part in known or part[1] in bench.TRAINING for part in bench.GOALS)
    assert families | ways <= bench.GOALS.keys()
    assert sum(part in works for part in bench.GOALS) == len(works)


def test_a_small_benchmark_from_end_to_end(tmp_path, capsys):
    """Real contenders on a tiny model; the decoding contenders must agree, or this fails."""
    out = tmp_path / "benchmarks.md"
    assert bench.main(["--quick", "--threads", "1", "--out", str(out), "decoding"]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| beam 4")]
    assert [row[:2] for row in rows] == [["beam 4", "2"]]
    assert all(float(cell.split()[0]) > 0 for cell in rows[0][3:5])
    assert "2 of 2" in rows[0]


def test_a_small_benchmark_of_tokenizers_from_end_to_end(capsys):
    """Real contenders: plain loop, ours and the library must learn the same merges, or this fails."""
    assert bench.main(["--quick", "--threads", "1", "tokens"]) == 0
    rows = [
        line.strip("| ").split(" | ")
        for line in capsys.readouterr().out.splitlines()
        if "merges | news" in line
    ]
    assert [row[2] for row in rows] == ["ours", "tokenizers", "ours"]
    assert all(float(row[5].split()[0]) > 0 for row in rows)


def test_other_merges_stop_it():
    answers = {side: [answer(1, [[1, 2], [3, 4]])] for side in ("plain loop", "ours")}
    bench.check_equal("train", answers)
    answers["ours"] = [answer(1, [[1, 2], [3, 5]])]
    with pytest.raises(bench.Trouble, match="“ours” finds something else than “plain loop”"):
        bench.check_equal("train", answers)


def test_a_small_training_step_learns_alike(monkeypatch):
    """In one process: every contender's first loss is the reference's, and a second step finds a lower one."""
    losses = {}
    for name in bench.TRAINING:
        work = bench.training_work(bench.QUICK, name)
        losses[name] = [work() for _ in range(5)]
        assert losses[name][-1] < losses[name][0]
    bench.check_losses({name: [{"result": found[0]}] for name, found in losses.items()})


def test_every_family_that_transformers_has_is_measured():
    missing = {name for name, family in zoo.FAMILIES.items() if zoo.says(family, "classes")}
    missing -= bench_families.TASKS.keys()
    assert not missing and bench_families.names(bench.FULL) == list(bench_families.TASKS)


@pytest.mark.parametrize("family", bench_families.TASKS)
@pytest.mark.parametrize("what", bench_families.WORKS)
def test_both_do_the_same_in_every_family(what, family):
    """In one process: the losses, then the states, are transformers', or `check` raises; a step lowers the loss."""
    answers = {}
    for side in bench_families.SIDES:
        work = bench_families.WORKS[what](bench.QUICK["families"], family, side)
        found = [bench_families.brief(work()) for _ in range(3)]
        assert found[2] < found[0] if what == "train" else found[2] == found[0]
        answers[side] = [answer(1, found[0])]
    bench_families.check(f"{what} {family}", answers)
    assert len(found[0]) == (1 if what == "train" else bench.QUICK["families"]["sentences"])


def test_another_family_stops_it():
    """Another weight in ours, another place of one state: both are seen."""
    torch.manual_seed(0)
    states = [torch.randn(3, 4), torch.randn(5, 4)]
    found = lambda states: [answer(1, bench_families.brief(states))]
    answers = {side: found(states) for side in bench_families.SIDES}
    bench_families.check("encode bert", answers)
    swapped = [states[0].flip(0), states[1]]
    for side in bench_families.SIDES[1:]:
        with pytest.raises(bench.Trouble, match=f"encode bert: what “{side}”"):
            bench_families.check("encode bert", answers | {side: found(swapped)})
    losses = {side: [answer(1, [8.0])] for side in bench_families.SIDES}
    for side, loss in (("ours, float32", 8.01), ("ours, bf16", 8.2), ("ours, bf16", float("nan"))):
        with pytest.raises(bench.Trouble, match=side):
            bench_families.check("train bert", losses | {side: [answer(1, [loss])]})


def test_a_small_benchmark_of_families_from_end_to_end(capsys):
    """Real contenders, one process for each side, that do one work after the other."""
    assert bench.main(["--quick", "--threads", "1", "families"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    for family in bench.QUICK["families"]["names"]:
        found = [row for row in rows if row[0] == family]
        assert len(found) == 2 and all(float(cell.split()[0]) > 0 for row in found for cell in row[2:4])
    assert [row[0] for row in rows if "≥" in row[-1]] == 2 * ["**lowest**", "**median**"]


@pytest.mark.parametrize("job", bench_adapting.jobs())
def test_both_learn_the_same_when_adapting(job):
    """In one process: the losses of all steps are Trainer's, or `check` raises; the GPT's fall when it goes on."""
    answers, later = {}, {}
    for side in bench_adapting.SIDES:
        work = bench_adapting.worker(bench.QUICK, side)(job)
        answers[side] = [answer(1, work())]
        later[side] = [answer(1, [work() for _ in range(5)][-1])]
    bench_adapting.check(job, answers)
    bench_adapting.check(job, later)  # Trainer goes on where it stood, and so do we
    first, last = (found["ours, float32"][0]["result"] for found in (answers, later))
    assert len(first) == bench.QUICK["adapting"][job.split()[0]]["steps"] and sum(last) < sum(first)


def test_another_adaptation_stops_it():
    """A loss that is off at one step only, one that is no number, one that is missing: all are seen."""
    found = lambda losses: [answer(1, losses)]
    answers = {side: found([2.0, 1.0]) for side in bench_adapting.SIDES}
    bench_adapting.check("gpt LoRA", answers)
    for side, losses in (
        ("ours, float32", [2.0, 1.001]),
        ("ours, bf16", [2.03, 1.0]),
        ("ours, bf16", [2.0, 1.1]),
        ("ours, bf16", [2.0, float("nan")]),
        ("ours, float32", [2.0]),
    ):
        with pytest.raises(bench.Trouble, match=f"gpt LoRA: the losses of “{side}”"):
            bench_adapting.check("gpt LoRA", answers | {side: found(losses)})


def test_a_small_benchmark_of_adapting_from_end_to_end(capsys):
    """Real contenders: peft, Trainer and ours."""
    assert bench.main(["--quick", "--threads", "1", "adapting"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if "≥ 1.5" in line]
    assert [" ".join(row[:2]) for row in rows] == bench_adapting.jobs()
    assert all(float(cell.split()[0]) > 0 for row in rows for cell in row[3:5])


def test_every_table_is_filled(monkeypatch, capsys):
    """The whole report, with contenders that answer at once."""

    class Instant:
        about = {"parameters": 8e6, "model": "a model"}

        def __init__(self, order, extra_env=()):
            text = [[1, 2]] * (order["name"][1] if order["part"] == "decoding" else 1)
            self.answer = answer(
                0.5, {"training": 1.0, "families": [1.0], "adapting": [1.0]}.get(order["part"], text)
            )
            self.hear = lambda: self.about

        def ask(self, what="go"):
            return self.answer

        def close(self):
            pass

    monkeypatch.setattr(bench, "Contender", Instant)
    monkeypatch.setattr(bench, "OUT", io.StringIO())
    assert bench.main(["--rounds", "5", *bench.PARTS]) == 0
    text = capsys.readouterr().out
    for name in [*bench.TRAINING, *(f"{kind} | {batch}" for kind, batch in bench.FULL["work"])]:
        assert f"| {name} |" in text
    n_ratios = 2 * (len(bench.TRAINING) + 1) + 2 * len(bench.FULL["work"])
    n_ratios += sum(len(sides) - 1 for _, _, sides in bench.FULL["jobs"].values())
    n_ratios += len(bench_families.TASKS) * len(bench_families.WORKS) * 2 + len(bench_adapting.jobs()) * 2
    assert text.count("1.00 (1.00 to 1.00)") == n_ratios


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit):
        bench.main(["speed"])
    assert "There is no part speed" in capsys.readouterr().err
