"""The table of the families: it is read from what the classes do, and it sees each change of a class."""

import ast

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils import family_table, house, zoo
from utils.lessons.attention import sinusoids
from utils.lessons.bert import BERT, BertFeedForward, BertInputs
from utils.lessons.gpt import GPT, GPTBlock
from utils.lessons.modern_decoders import (
    GatedFeedForward,
    Gemma2,
    GroupedAttention,
    LLaMA,
    OlmoAttention,
)
from utils.lessons.transformer import CausalAttention, FeedForward, Transformer


@pytest.fixture(scope="module")
def rows():
    return {row["family"]: row for row in family_table.rows()}


def test_every_family_is_in_the_table(rows):
    assert list(rows) == [Transformer.__name__, *(family.__name__ for family in zoo.FAMILIES.values())]
    assert [row["model_type"] for row in list(rows.values())[1:]] == list(zoo.FAMILIES)
    assert all(row[switch] for row in rows.values() for switch in family_table.SWITCHES)


@pytest.mark.parametrize(
    "family, switch, expected",
    [
        ("Transformer", "positions", "sinusoids"),
        ("BERT", "looks", "both ways"),
        ("BERT", "norm", "LayerNorm after"),
        ("BERT", "segments", "yes"),
        ("RoBERTa", "segments", "no"),
        ("DistilBERT", "segments", "no"),
        ("ALBERT", "layers", "shared"),
        ("ALBERT", "word vectors", "narrow"),
        ("ALBERT", "net", "tanh-gelu"),
        ("ELECTRA", "word vectors", "narrow"),
        ("XLNet", "positions", "relative vectors"),
        ("XLNet", "segments", "yes"),
        ("GPT", "looks", "back"),
        ("GPT", "norm", "LayerNorm before"),
        ("LLaMA", "positions", "rotary"),
        ("LLaMA", "net", "gated silu"),
        ("LLaMA", "keys", "may be shared"),
        ("LLaMA", "biases", "no"),
        ("Gemma2", "norm", "RMSNorm before and behind"),
        ("Gemma2", "looks", "back, 2 of 4 layers in a window"),
        ("OLMo2", "norm", "RMSNorm behind"),
        ("OLMo2", "q and k", "normed"),
        ("Llama4", "net", "gated silu, 1 of 4 experts"),
        ("Llama4", "looks", "back, 3 of 4 layers in chunks"),
        ("Llama4", "positions", "rotary, 1 of 4 layers without"),
        ("T5", "positions", "relative buckets"),
        ("T5", "net", "relu or gated tanh-gelu"),
        ("T5", "looks", "both ways + back"),
        ("BART", "norm", "LayerNorm after"),
        ("BART", "positions", "learned table"),
        ("LSTM", "looks", "back"),
        ("LSTM", "positions", "none: in order"),
    ],
)
def test_what_the_papers_say_is_what_the_probes_find(rows, family, switch, expected):
    assert rows[family][switch] == expected


def block(base, **parts):
    """A family whose blocks have other parts."""
    return type(
        f"Other{base.__name__}", (base,), {"make_block": type("OtherBlock", (base.make_block,), parts)}
    )


class Unplaced(GPT):
    """GPT-2 without positions."""

    def enter(self, ids, positions):
        return self.tokens(ids)


class Waves(Unplaced):
    """GPT-2 with the positions of 2017."""

    def enter(self, ids, positions):
        return self.tokens(ids) + sinusoids(24, self.config.d_model)[positions]


class SharedBlocks(GPT):
    """GPT-2 that passes one block again and again."""

    def __init__(self, config, head="language"):
        super().__init__(config, head)
        self.blocks = nn.ModuleList([self.blocks[0]] * config.n_layers)


class OwnHead(GPT):
    """GPT-2 whose head is no table."""

    def __init__(self, config, head="language"):
        super().__init__(config, head)
        self.head.weight = nn.Parameter(self.head.weight.detach().clone())


class OneKind(BertInputs):
    """BERT's inputs, deaf to the segments."""

    def forward(self, ids, segments=None):
        return super().forward(ids)


class FirstLayersNear(GPT):
    """GPT-2 whose first two layers see three positions."""

    def run(self, x, mask=None, **how):
        places = torch.arange(x.size(1))
        near = (places <= places[:, None]) & (places > places[:, None] - 3)
        for layer, one in enumerate(self.blocks):
            x = one(x, mask=near if layer < 2 else None, layer=layer, **how)
        return self.norm(x)


class SiluNet(BertFeedForward):
    """BERT's net with another bend."""

    bend = staticmethod(F.silu)


class NetWithoutBiases(FeedForward):
    """GPT-2's net without biases."""

    bend, bias = staticmethod(GPTBlock.make_feed_forward.bend), False


@pytest.mark.parametrize(
    "base, other, changes",
    [
        (BERT, block(BERT, make_attention=CausalAttention), {"looks": "back"}),
        (BERT, block(BERT, norm_first=True), {"norm": "LayerNorm before"}),
        (BERT, block(BERT, make_norm=nn.RMSNorm), {"norm": "RMSNorm after"}),
        (BERT, block(BERT, make_feed_forward=SiluNet), {"net": "silu"}),
        (BERT, type("Deaf", (BERT,), {"make_embeddings": OneKind}), {"segments": "no"}),
        (GPT, Unplaced, {"positions": "none"}),
        (GPT, Waves, {"positions": "sinusoids"}),
        (GPT, SharedBlocks, {"layers": "shared"}),
        (GPT, OwnHead, {"head": "own"}),
        (GPT, FirstLayersNear, {"looks": "back, 2 of 4 layers in a window"}),
        (GPT, block(GPT, make_feed_forward=FeedForward), {"net": "relu"}),
        (GPT, block(GPT, make_feed_forward=NetWithoutBiases), {"biases": "in the attention"}),
        (
            LLaMA,
            block(LLaMA, make_attention=type("R", (GroupedAttention,), {"rotary": False})),
            {"positions": "none"},
        ),
        (LLaMA, block(LLaMA, make_attention=OlmoAttention), {"q and k": "normed"}),
        (LLaMA, block(LLaMA, make_norm=nn.LayerNorm), {"norm": "LayerNorm before"}),
        (Gemma2, type("Wide", (Gemma2,), {"vary": LLaMA.vary}), {"looks": "back"}),
        (Gemma2, block(Gemma2, make_feed_forward=GatedFeedForward), {"net": "gated silu"}),
    ],
)
def test_one_change_of_a_class_changes_one_switch(base, other, changes):
    heads = [next(kind for kind in zoo.says(base, "classes") if kind)]
    before, after = (
        family_table.switches(make, family_table.variants(base)[:1], heads) for make in (base, other)
    )
    assert {name: after[name] for name in after if after[name] != before[name]} == changes


def test_the_table_has_the_page_the_folder_and_the_lines(rows):
    text = house.families()
    assert "| BERT | [09_bert](../notebooks/09_bert.ipynb) | **both ways** |" in text
    assert f"| t5 | {rows['T5']['lines']} |" in text and rows["T5"]["lines"] > 100
    total = sum(row.get("lines") or 0 for row in rows.values())
    assert (
        f"{total} in all" in text
        and (house.ROOT / "data" / "families.md").read_text(encoding="utf-8") == text
    )


CODE = '''
from utils.lessons.other import Base
import math

def used(x):
    """Adds."""

    helper = 2  # a name of its own
    return helper * x + math.pi


def helper(x):
    return x


def unused():
    return helper(1)


@decorated
class Family(Base):
    part = used


Family.table = {
    "a": CONSTANT,
}
CONSTANT = 1
unused.note = Family
'''


def test_code_is_found_by_name_and_counted_without_blank_lines(tmp_path):
    for name, text in {
        "one": CODE,
        "other": "class Base:\n    pass\n\n\nclass Alone(Base):\n    pass\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    modules = {name: family_table.statements(tmp_path / f"{name}.py") for name in ("one", "other")}
    found = family_table.reached(modules, ("one", "Family"))
    pieces = [modules[module][0][number] for module, number in sorted(found)]
    named = {getattr(node, "name", None) or ast.unparse(node): lines for _, node, lines in pieces}
    assert named == {
        "used": 4,
        "Family": 3,
        "Family.table = {'a': CONSTANT}": 3,
        "CONSTANT = 1": 1,
        "Base": 2,
    }
