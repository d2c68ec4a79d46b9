"""A page cut down for one cell: what the cell needs is there and in order, what it does not need is not."""

import excerpts
import pytest

from utils import course, pages

BEGIN = "from utils import course; course.begin()"


def cut(*sources, instead=None):
    """The excerpt for the last of these cells, as one text, without the beginning."""
    cells = {"begin": BEGIN, **{str(n): source for n, source in enumerate(sources)}}
    found = excerpts.excerpt(cells, [str(len(sources) - 1)], instead)
    assert found.pop("begin") == BEGIN
    return "\n".join(found.values())


@pytest.mark.parametrize(
    "needed",
    [
        "a = 1",
        "a, b = 1, 2",
        "import a",
        "from x import y as a",
        "def a():\n    pass",
        "@cache\ndef a():\n    pass",
        "class a:\n    pass",
        "for a in range(3):\n    print(a)",
        "with open(x) as a:\n    pass",
        "if x:\n    a = 1",
        "a = 0\na += 1",
        "a = 0\na |= {1: 2}",
        "a = []\na.append(1)",
        "a = {}\na['x'] = 1",
        "a = X()\na.x = 1",
        "a = []\nfor i in range(3):\n    a.append(i)",
        "(a := 1)",
        "b = 1\na = b",
        "def b():\n    return 1\ndef a():\n    return b()",
        "c = 1\ndef b():\n    return c\na = lambda: b()",
        "c = 1\nclass B:\n    def x(self):\n        return c\na = B()",
        "c = 1\na = [c for _ in range(3)]",
        "import torch\ntorch.set_grad_enabled(False)\na = torch.ones(1)",
        "import torch\n_ = torch.manual_seed(0)\na = torch.randn(1)",
    ],
)
def test_what_is_needed_stays(needed):
    assert cut("unused = 1", needed, "show(a)") == needed + "\nshow(a)"


@pytest.mark.parametrize(
    "source, kept",
    [
        ("b = 1\na = 2", "a = 2"),
        ("a = 1\na = 2", "a = 2"),  # the later value covers the earlier one
        ("a = 1\nprint(a)", "a = 1"),
        ("a = 1\nassert a == 1", "a = 1"),
        ("import torch\na = torch.ones(1)\ntorch.save(a, 'x')", "import torch\na = torch.ones(1)"),
        ("import t\nd = t.Generator().manual_seed(0)\na = t.ones(1)", "import t\na = t.ones(1)"),
        ("x = 1\ndef a():\n    x = 2\n    return x", "def a():\n    x = 2\n    return x"),
        ("i = 1\na = [i for i in range(3)]", "a = [i for i in range(3)]"),
        ("i = 1\nfor i in 'ab':\n    a = i", "for i in 'ab':\n    a = i"),
        ("y = 1\nfor i in 'ab':\n    y = i\n    a = y", "for i in 'ab':\n    y = i\n    a = y"),
    ],
)
def test_what_is_not_needed_goes(source, kept):
    assert cut(source, "show(a)") == kept + "\nshow(a)"


def test_a_function_sees_what_its_names_mean_when_it_is_called():
    page = [
        "text = 'old'\ndef f():\n    return text",
        "text = 'new'",
        "a = f()",
        "text = 'newest'",
        "show(a)",
    ]
    names = {"show": lambda a: names.update(shown=a)}
    exec(cut(*page), names)
    assert names["shown"] == "new"


def test_what_takes_long_is_replaced_with_all_that_it_needed():
    page = ["data = [1] * 10**9", "model = train(data)\nmodel.eval()", "show(model)"]
    assert cut(*page, instead={"model": "x = 1\nmodel = x"}) == "x = 1\nmodel = x\nshow(model)"
    with pytest.raises(ValueError, match="need nothing called modle"):
        cut(*page, instead={"modle": "modle = 1"})


def test_two_cells_of_a_page_may_be_wanted():
    cells = {"a": "x = 1\ny = 2\nz = 3", "b": "show(x)", "c": "print(1)", "d": "show(y)", "e": "show(z)"}
    assert excerpts.excerpt(cells, ["b", "d"]) == {"a": "x = 1\ny = 2", "b": "show(x)", "d": "show(y)"}
    with pytest.raises(ValueError, match="no cell f among a, b"):
        excerpts.excerpt(cells, ["f"])


def test_the_excerpt_of_a_page_runs_alone_and_makes_what_the_page_makes():
    page = pages.read(course.root() / "notebooks" / "10_bert_family.ipynb")
    cells = {cell.id: cell.source for cell in pages.code_cells(page)}
    wanted = next(cell for cell in page.cells if "widget" in cell.metadata.get("tags", []))
    found = excerpts.excerpt(cells, [wanted.id])
    *before, last = found.values()
    assert len(found) < 6 < len(cells)
    names = {}
    exec("\n".join(before[1:]), names)
    assert repr(eval(last, names)) == wanted.outputs[0].data["text/plain"]
