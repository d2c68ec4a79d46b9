"""What the descendants of BERT promise: their objectives, their shared weights, XLNet's two streams."""

import copy
import http.server
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers
from test_zoo import Hub
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F

from utils import zoo
from utils.lessons import bert_family as bf
from utils.lessons.bert import BERT, BertConfig, mask_tokens, masked_loss, pretraining_loss

ROOT = Path(__file__).resolve().parents[1]
TINY = {"vocab_size": 97, "n_layers": 2, "n_heads": 2, "d_model": 16, "d_ff": 24}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def some_ids(B=3, T=12, seed=0):
    return torch.randint(7, 97, (B, T), generator=rng(seed))


def stirred(model, seed=0):
    """The model with every weight drawn anew, so that no bias is 0 and no norm is 1."""
    draw = rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=draw))
    return model.eval()


def xlnet(head="language", seed=0):
    return stirred(bf.XLNet(bf.XLNetConfig(**TINY), head), seed)


def pair():
    config = bf.ElectraConfig(**TINY, d_embedding=16)
    return bf.ElectraPair(bf.generator_config(config, d_model=8, n_heads=2), config)


def test_roberta_counts_places_from_the_filling():
    inputs = bf.RobertaInputs(bf.RobertaConfig(**TINY, pad=1))
    assert inputs.places(torch.tensor([[1, 1, 7, 8, 9], [7, 8, 1, 9, 1]])).tolist() == [
        [1, 1, 2, 3, 4],
        [2, 3, 1, 4, 1],
    ]


def test_albert_has_one_block_and_its_gradients_add_up():
    model = bf.ALBERT(bf.AlbertConfig(**TINY, d_embedding=8), head="masked")
    assert len(model.blocks) == 2 and model.blocks[0] is model.blocks[1]
    apart = bf.ALBERT(bf.AlbertConfig(**TINY, d_embedding=8), head="masked")
    apart.blocks = torch.nn.ModuleList(copy.deepcopy(model.blocks[0]) for _ in range(2))
    for part in ("inputs", "head"):
        getattr(apart, part).load_state_dict(getattr(model, part).state_dict())
    for m in (model, apart):
        m(some_ids()).logsumexp(-1).sum().backward()
    total = apart.blocks[0].attention.qkv.weight.grad + apart.blocks[1].attention.qkv.weight.grad
    torch.testing.assert_close(model.blocks[0].attention.qkv.weight.grad, total)


def test_depth_costs_albert_no_parameter():
    counts = {
        sum(p.numel() for p in bf.ALBERT(bf.AlbertConfig(**TINY | {"n_layers": n})).parameters())
        for n in (1, 6)
    }
    assert len(counts) == 1


def test_swapped_halves_are_the_same_tokens():
    rows = some_ids(200, 9)
    ids, segments, in_order = bf.sentence_order_pairs(rows, rng())
    assert ids.shape == segments.shape == (200, 11) and 60 < in_order.sum() < 140
    assert (ids[:, 0] == 5).all() and (ids[:, [5, 10]] == 4).all()
    assert segments[0].tolist() == [0] * 6 + [1] * 5
    first, second = ids[:, 1:5], ids[:, 6:10]
    torch.testing.assert_close(first[in_order], rows[in_order, :4])
    torch.testing.assert_close(first[~in_order], rows[~in_order, 4:8])
    torch.testing.assert_close(second[~in_order], rows[~in_order, :4])


def test_albert_learns_blanks_and_order_with_the_losses_of_lesson_09():
    model = bf.ALBERT(bf.AlbertConfig(**TINY, d_embedding=8), head="pretraining")
    ids, segments, in_order = bf.sentence_order_pairs(some_ids(30, 16), rng())
    inputs, targets = mask_tokens(ids, rng(), 97, 3)
    loss = pretraining_loss(model, inputs, segments, targets, in_order)
    assert abs(loss - math.log(97) - math.log(2)) < 0.1
    theirs = zoo.to_transformers(model)
    found = theirs(
        input_ids=inputs,
        token_type_ids=segments,
        labels=targets.masked_fill(targets < 0, -100),
        sentence_order_label=(~in_order).long(),
    )
    torch.testing.assert_close(loss, found.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "n, kept, taken", [(12, None, [0, 2, 4, 7, 9, 11]), (4, 2, [0, 3]), (2, 1, [0]), (3, 3, [0, 1, 2])]
)
def test_a_student_starts_as_part_of_its_teacher(n, kept, taken):
    teacher = stirred(BERT(BertConfig(**TINY | {"n_layers": n}), head="masked"))
    student = bf.start_from_teacher(teacher, kept).eval()
    for block, layer in zip(student.blocks, taken, strict=True):
        assert torch.equal(block.attention.qkv.weight, teacher.blocks[layer].attention.qkv.weight)
    torch.testing.assert_close(student.inputs(some_ids()), teacher.inputs(some_ids()))
    assert student.head.weight is student.inputs.tokens.weight
    assert student.head.weight is not teacher.head.weight
    if n == kept:
        torch.testing.assert_close(student(some_ids()), teacher(some_ids()))


def test_a_student_equal_to_its_teacher_has_only_the_hard_loss_left():
    teacher = stirred(BERT(BertConfig(**TINY), head="masked"))
    student = bf.start_from_teacher(teacher, 2)
    inputs, targets = mask_tokens(some_ids(8, 30), rng(), 97, 3)
    soft, hard, angle = (
        bf.distillation_loss(student, teacher, inputs, targets, weights=weights)
        for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    assert abs(soft) < 1e-5 and abs(angle) < 1e-5
    torch.testing.assert_close(hard, masked_loss(teacher, inputs, targets))
    bf.distillation_loss(student, teacher, inputs, targets).backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_distillation_follows_its_formula():
    teacher = stirred(BERT(BertConfig(**TINY), head="masked"))
    student = stirred(bf.start_from_teacher(teacher, 1), seed=1)
    inputs, targets = mask_tokens(some_ids(8, 30), rng(), 97, 3)
    asked = targets >= 0
    z, v = student(inputs)[asked], teacher(inputs)[asked]
    p, q = (v / 2).softmax(-1), (z / 2).log_softmax(-1)
    soft = 4 * (p * (p.log() - q)).sum(-1).mean()
    angle = (1 - F.cosine_similarity(student.hidden(inputs), teacher.hidden(inputs), dim=-1)).mean()
    expected = 5 * soft + 2 * F.cross_entropy(z, targets[asked]) + angle
    torch.testing.assert_close(bf.distillation_loss(student, teacher, inputs, targets), expected)


def test_electra_starts_at_what_guessing_costs():
    torch.manual_seed(0)
    config = bf.ElectraConfig()
    loss = bf.electra_loss(bf.ElectraPair(), torch.randint(7, config.vocab_size, (4, 128)), rng())
    assert abs(loss - math.log(config.vocab_size) - 50 * math.log(2)) < 1


def test_a_token_drawn_as_it_was_counts_as_true(monkeypatch):
    model, ids = pair(), some_ids()
    monkeypatch.setattr(bf, "corrupt", lambda pair, ids, *rest: (ids, torch.tensor(0.0)))
    verdicts = model.discriminator(ids)
    expected = 50 * F.binary_cross_entropy_with_logits(verdicts, torch.zeros_like(verdicts))
    torch.testing.assert_close(bf.electra_loss(model, ids, rng()), expected)


def test_only_holes_are_filled_and_no_gradient_passes_the_samples():
    model, ids = pair(), some_ids(20, 30)
    filled, loss = bf.corrupt(model, ids, rng())
    _, targets = mask_tokens(ids, rng(), 97, 3)
    assert torch.equal(filled[targets < 0], ids[targets < 0])
    assert 0 < (filled != ids).sum() <= (targets >= 0).sum()
    F.binary_cross_entropy_with_logits(model.discriminator(filled), (filled != ids).float()).backward()
    own = [p for p in model.generator.parameters() if p is not model.generator.head.weight]
    own = [p for p in own if p is not model.generator.inputs.positions.weight]
    assert own and all(p.grad is None for p in own)


def test_the_generator_draws_from_its_own_guesses():
    model = pair()
    bias = torch.full((97,), -50.0)
    bias[[20, 30]] = torch.tensor([math.log(0.75), math.log(0.25)])
    model.generator.head.bias.data = bias
    model.generator.head.norm.weight.data.zero_()
    ids = some_ids(100, 60)
    filled, _ = bf.corrupt(model, ids, rng())
    drawn = filled[mask_tokens(ids, rng(), 97, 3)[1] >= 0]
    assert set(drawn.tolist()) == {20, 30}
    assert abs((drawn == 20).float().mean() - 0.75) < 5 * math.sqrt(0.75 * 0.25 / len(drawn))


def test_generator_and_discriminator_share_their_tables():
    model = pair()
    assert model.generator.inputs.tokens is model.discriminator.inputs.tokens
    assert model.generator.inputs.positions is model.discriminator.inputs.positions
    assert model.generator.head.weight is model.discriminator.inputs.tokens.weight
    assert model.generator.inputs.norm is not model.discriminator.inputs.norm


def test_a_generator_is_as_deep_as_its_discriminator_and_narrow():
    config = bf.generator_config(bf.ElectraConfig())
    assert (config.n_layers, config.d_model, config.d_ff, config.d_embedding) == (4, 48, 192, 160)
    assert config.d_model % config.n_heads == 0
    assert bf.ElectraPair().generator.config == config


def test_a_fresh_verdict_is_undecided():
    torch.manual_seed(0)
    head = bf.ELECTRA(bf.ElectraConfig(), head="replaced").head
    assert not head.first.bias.any() and not head.last.bias.any()
    assert abs(head.first.weight.std() - 0.02) < 1e-3 and abs(head.last.weight.std() - 0.02) < 5e-3


def orders(B, T, n_given, seed=0):
    order = torch.rand(B, T, generator=rng(seed)).argsort(-1)
    return order, bf.order_mask(order, n_given), order[:, n_given:]


@pytest.mark.parametrize("seed", range(20))
def test_two_streams_give_the_same_numbers(seed):
    """Against transformers' perm_mask and target_mapping, with padding left and right, and with segments."""
    B, T = 3, 11
    model = xlnet(head=("language", None)[seed % 2], seed=seed)
    theirs, ids = zoo.to_transformers(model), some_ids(B, T, seed)
    order, sees, targets = orders(B, T, 7, seed)
    mapping = F.one_hot(targets, T).float()
    real = torch.arange(T) < torch.tensor([T, T - 4, 5])[:, None]
    segments = (torch.arange(T) > 4).long().expand(B, T)
    for mask in (None, real, real.flip(1)):
        for how in ({}, {"segments": segments}):
            found = model(ids, mask, sees=sees, targets=targets, **how)
            given = {} if mask is None else {"attention_mask": mask.float()}
            given |= {"token_type_ids": segments} if how else {}
            expected = theirs(input_ids=ids, perm_mask=(~sees).float(), target_mapping=mapping, **given)[0]
            looks = sees if mask is None else sees & mask[:, None]
            sound = looks.any(-1).gather(1, targets)  # they let a query that may see no one see everyone
            if mask is not None:
                sound &= mask.gather(1, targets)
            assert sound.any()
            torch.testing.assert_close(found[sound], expected[sound], atol=1e-5, rtol=1e-5)
            plain = model(ids, mask, **how)
            whole = theirs(input_ids=ids, **given)[0]
            where = torch.ones(B, T, dtype=torch.bool) if mask is None else mask
            torch.testing.assert_close(plain[where], whole[where], atol=1e-5, rtol=1e-5)


def test_a_query_depends_on_what_is_read_before_it_and_on_nothing_else():
    model, ids, T = xlnet(head=None), some_ids(1, 8), 8
    order, sees, targets = orders(1, T, 3)
    x = model.tokens(ids).detach().requires_grad_()
    model.tokens.forward = lambda ids: x
    for row, position in enumerate(targets[0].tolist()):
        (grad,) = torch.autograd.grad(model.hidden(ids, sees=sees, targets=targets)[0, row].sum(), x)
        before = order[0, : 3 + row].tolist()
        assert position not in before
        assert set(grad[0].abs().sum(-1).nonzero().flatten().tolist()) == set(before)
        (grad,) = torch.autograd.grad(model.hidden(ids, sees=sees)[0, position].sum(), x)
        assert set(grad[0].abs().sum(-1).nonzero().flatten().tolist()) == {*before, position}


def test_in_the_order_of_the_text_it_is_a_causal_language_model():
    model, T = xlnet(), 8
    order = torch.arange(T)[None]
    sees = bf.order_mask(order, 0)
    assert torch.equal(sees[0], torch.ones(T, T, dtype=torch.bool).tril(-1))
    ids = some_ids(1, T)
    logits = model(ids, sees=sees, targets=order)
    for t in range(T):
        changed = ids.clone()
        changed[:, t:] = some_ids(1, T, seed=1)[:, t:]
        torch.testing.assert_close(model(changed, sees=sees, targets=order)[:, : t + 1], logits[:, : t + 1])
    assert logits.isfinite().all()


def test_every_row_of_two_streams_is_the_row_of_a_shorter_question():
    """All targets at once, or one of them with the text cut to what it may see: the same guess."""
    model, ids = xlnet(), some_ids(1, 8)
    order, sees, targets = orders(1, 8, 5)
    together = model(ids, sees=sees, targets=targets)
    for row in range(3):
        given = order[0, : 5 + row]
        wider = torch.zeros(1, 8, 8, dtype=torch.bool)
        wider[:, :, given] = True
        wider[0, given] &= sees[0, given] | torch.eye(8, dtype=torch.bool)[given]
        alone = model(ids, sees=wider, targets=targets[:, row : row + 1])
        torch.testing.assert_close(alone[:, 0], together[:, row])


def test_the_slant_is_what_the_loop_says():
    scores = torch.randn(2, 3, 5, 10, generator=rng())
    expected = torch.empty(2, 3, 5, 5)
    for i in range(5):
        for j in range(5):
            expected[:, :, i, j] = scores[:, :, i, 5 - (i - j)]
    assert torch.equal(bf.shift(scores), expected)
    rows = torch.tensor([[4, 0], [2, 2]])
    picked = scores[:, :, :2]
    found = bf.shift(picked, rows)
    for b in range(2):
        for m in range(2):
            for j in range(5):
                assert torch.equal(found[b, :, m, j], picked[b, :, m, 5 - (rows[b, m].item() - j)])


def test_the_permutation_loss_asks_for_the_last_sixth():
    model, ids = xlnet(), some_ids(4, 25)
    asked = []
    forward = model.forward
    model.forward = lambda *args, **how: asked.append(how) or forward(*args, **how)
    loss = bf.permutation_loss(model, ids, rng())
    targets, sees = asked[0]["targets"], asked[0]["sees"]
    assert targets.shape == (4, 4) and all(len(set(row.tolist())) == 4 for row in targets)
    given = torch.ones(4, 25, dtype=torch.bool).scatter(1, targets, False)
    assert sees[given].sum(-1).eq(21).all()
    logits = forward(ids, sees=sees, targets=targets)
    expected = F.cross_entropy(logits.flatten(0, 1), ids.gather(1, targets).flatten())
    torch.testing.assert_close(loss, expected)
    fresh = bf.XLNet(bf.XLNetConfig(**TINY), "language")
    assert abs(bf.permutation_loss(fresh, ids, rng()) - math.log(97)) < 0.1


def objective(name):
    """A model of the family `name` and its loss as a function of (model, ids)."""
    if name == "electra":
        return pair(), lambda model, ids: bf.electra_loss(model, ids, rng())
    if name == "xlnet":
        return xlnet(), lambda model, ids: bf.permutation_loss(model, ids, rng())
    if name == "distilbert":
        teacher = BERT(BertConfig(**TINY), head="masked")
        student = bf.start_from_teacher(teacher, 1)
        loss = bf.distillation_loss
        return student, lambda model, ids: loss(model, teacher, *mask_tokens(ids, rng(), 97, 3))
    family = {"roberta": bf.RoBERTa, "albert": bf.ALBERT}[name]
    model = family(family.make_config(**TINY), head="masked")
    return model, lambda model, ids: masked_loss(model, *mask_tokens(ids, rng(), 97, 3))


@pytest.mark.parametrize("name", ["roberta", "albert", "distilbert", "electra", "xlnet"])
def test_it_trains_as_a_copy_in_bfloat16_with_its_ties(name):
    model, loss = objective(name)
    twin = copy.deepcopy(model).to(torch.bfloat16)
    names = [n for n, _ in model.named_parameters()]
    assert [n for n, _ in twin.named_parameters()] == names  # a broken tie would be one more
    found = loss(twin, some_ids(4, 24))
    found.backward()
    assert abs(found - loss(model, some_ids(4, 24))) < 0.1 * found.abs()
    silent = [n for n, p in twin.named_parameters() if p.grad is None]
    assert all("pooler" in n or "bias_segment" in n or "segments" in n for n in silent), silent


def test_a_pair_is_saved_as_two_models(tmp_path):
    model = pair()
    for part in ("generator", "discriminator"):
        twin = zoo.to_transformers(getattr(model, part))
        twin.save_pretrained(tmp_path / part)
        again = zoo.from_transformers(tmp_path / part)
        assert isinstance(again, bf.ELECTRA)
        torch.testing.assert_close(again(some_ids()), getattr(model, part)(some_ids()))
    assert isinstance(twin, transformers.ElectraForPreTraining)


WIDE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 1}
PUBLISHED = {  # the names of the page: the class that each holds, its published settings, but for one block
    "FacebookAI/roberta-base": (
        transformers.RobertaForMaskedLM,
        WIDE
        | {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1},
    ),
    "albert/albert-base-v2": (transformers.AlbertForMaskedLM, WIDE | {"embedding_size": 128}),
    "distilbert/distilbert-base-uncased": (transformers.DistilBertForMaskedLM, {"n_layers": 1}),
    "google/electra-small-discriminator": (transformers.ElectraForPreTraining, {"num_hidden_layers": 1}),
    "xlnet/xlnet-base-cased": (
        transformers.XLNetLMHeadModel,
        {"d_model": 768, "n_head": 12, "d_inner": 3072, "n_layer": 1},
    ),
}
WORDS = "the capital of france is city on river seine chef cooked sun for dinner . , The".split()


def published_folder(name, folder):
    """What the hub holds under `name`, with random weights and a vocabulary of a few words."""
    make, settings = PUBLISHED[name]
    torch.manual_seed(0)
    make(make.config_class(vocab_size=40, **settings)).save_pretrained(folder)
    tokenizer = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<unk>", *WORDS])}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<mask>", "[MASK]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_the_page_asks_the_published_models(tmp_path):
    """The cell that is tagged `hub`, and the one before it, against a hub on this machine."""
    folders = {name: published_folder(name, tmp_path / str(i)) for i, name in enumerate(PUBLISHED)}

    class Shelf(Hub):
        def answer(self, body=True):
            self.name = next((name for name in folders if f"/{name}" in self.path), "no/model")
            self.folder = folders.get(self.name, tmp_path)
            super().answer(body)

    page = json.loads((ROOT / "notebooks" / "10_bert_family.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in page["cells"] if cell["cell_type"] == "code"]
    (at,) = (i for i, cell in enumerate(cells) if "hub" in cell["metadata"].get("tags", []))
    code = "import torch\nfrom utils import course, zoo\nfrom utils.lessons.bert_family import XLNet\n"
    code += "\n".join("".join(cell["source"]) for cell in cells[at - 1 : at + 1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    hidden = ("HF_", "COURSE_ONLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    settings = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | place
    try:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)
    finally:
        server.shutdown()
        server.server_close()
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in lines] == list(PUBLISHED)
    assert all(" → " in line for line in lines), lines
