"""The whole family tree as switches: family × part, read from the classes by building and probing each one.

`rows()` is the table as data, `markdown()` is data/families.md, `show.family_tree(rows())` draws it. Nothing here
names a family: what stands in zoo.FAMILIES appears, small and with random weights, and is asked what it does.
"""

import ast
import inspect
import sys
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from utils import course, zoo
from utils.lessons.attention import sinusoids
from utils.lessons.sentence_embeddings import SentenceEncoder
from utils.lessons.transformer import Config, Transformer

V, T = 13, 10  # words and length of the texts that every family is asked about
TINY = {  # sizes, where a family's config has them; all else stays as its class says
    **{
        "vocab_size": V,
        "n_positions": 24,
        "n_layers": 4,
        "n_decoder_layers": 4,
        "d_model": 32,
        "d_embedding": 12,
    },
    **{"n_heads": 4, "n_decoder_heads": 4, "n_kv_heads": 2, "d_ff": 24, "window": 3, "chunk": 4},
    **{"widths": (8,) * 7, "place_width": 5, "place_groups": 4},
}
BENDS = {"relu", "gelu", "silu", "mish", "elu", "tanh"}
FIRST_PAGE, LAST_PAGE = "09", "15"  # the lessons whose code is the families'


# Small models and what they do on the way ------------------------------------------------------------


def small(make, config, head=None):
    """A small model with every weight drawn, norms around 1: nothing is zero or equal by accident."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(config, head=head) if head else make(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_((parameter.dim() == 1) + 0.3 * torch.randn(parameter.shape))
    return model.eval()


def variants(family):
    """The family's tiny config, then those with another choice of one setting that it leaves open."""
    known = {field.name for field in fields(family.make_config)}
    tiny = family.make_config(**{name: size for name, size in TINY.items() if name in known})
    choices = {name: (False, True) for name in known if isinstance(getattr(tiny, name), bool)}
    for key, values in zoo.says(family, "settings").items():
        if isinstance(values, tuple):
            choices[family.published_config[key]] = values
    others = [(name, value) for name in sorted(choices) for value in choices[name]]
    return [tiny, *(replace(tiny, **{n: value}) for n, value in others if value != getattr(tiny, n))]


def stacks(model):
    """The stacks of blocks in a model; none where it has no blocks."""
    parts = [model.encoder, model.decoder] if hasattr(model, "encoder") else [model]
    return [stack for stack in parts if hasattr(stack, "blocks")]


def text(model, seed=0):
    """What the model reads: ids (1, T) without padding, twice for two stacks; or sound where it knows no words."""
    rng = torch.Generator().manual_seed(seed)
    if not any(isinstance(module, nn.Embedding) for module in model.modules()):
        return (torch.randn(1, 400 + 320 * (T - 1), generator=rng),)
    return tuple(torch.randint(7, V, (1, T), generator=rng) for _ in range(max(len(stacks(model)), 1)))


def calls(model, inputs):
    """{module: (args, keywords, result)} of the first call of each module while the model reads `inputs`."""
    seen = {}

    def note(module, args, keywords, result):
        seen.setdefault(module, (args, keywords, result))

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in model.modules()]
    model(*inputs)
    [hook.remove() for hook in hooks]
    return seen


def reach(function, x):
    """(T, T), True where what `function` makes of x (1, T, D) at one position depends on x at another."""
    x = x.detach().requires_grad_()
    out = function(x)
    return torch.stack(
        [torch.autograd.grad(row.square().sum(), x, retain_graph=True)[0][0].any(-1) for row in out[0]]
    )


class Bends(TorchFunctionMode):
    """Notes the bends that are called, and whether their result multiplies something of its own shape."""

    def __init__(self):
        super().__init__()
        self.names, self.results, self.gated = [], [], False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        result = function(*args, **kwargs)
        if name in BENDS:
            self.names.append(("tanh-" if kwargs.get("approximate") == "tanh" else "") + name)
            self.results.append(result)
        if name in ("mul", "__mul__", "multiply"):
            bent = [any(arg is found for found in self.results) for arg in args[:2]]
            self.gated |= any(bent) and all(isinstance(arg, torch.Tensor) for arg in args[:2])
        return result


# One switch each -------------------------------------------------------------------------------------


def some(words, usual):
    """`usual`, and of how many layers each other word is true."""
    others = [
        f"{words.count(word)} of {len(words)} layers {word}" for word in dict.fromkeys(words) if word != usual
    ]
    return ", ".join([usual, *others])


def sight(seen):
    """A (T, T) of `reach` in a word."""
    if seen.triu(1).any():
        return "both ways"
    near = seen.sum(-1)
    if (near == torch.arange(1, T + 1)).all():
        return "back"
    return "in a window" if (near[near.argmax() :] == near.max()).all() else "in chunks"


def looks(model, seen):
    """Who sees whom, in every layer of every stack."""
    if not stacks(model):
        table = next(module for module in seen if isinstance(module, nn.Embedding))
        hook = table.register_forward_hook(lambda module, args, result: seen[table][2].detach() + ways)
        ways = torch.zeros_like(seen[table][2]).requires_grad_()
        out = model(*text(model))
        hook.remove()
        grads = [torch.autograd.grad(row.square().sum(), ways, retain_graph=True)[0][0] for row in out[0]]
        return sight(torch.stack(grads).any(-1))
    words = []
    for stack in stacks(model):
        layers = [(block.attention, *seen[block.attention]) for block in stack.blocks]
        sights = [sight(reach(partial(part, **how), args[0])) for part, args, how, _ in layers]
        words.append(some(sights, "both ways" if "both ways" in sights else "back"))
    return " + ".join(words)


def norms(model, seen):
    """Which norm, and where it stands around the parts of a block."""
    if not stacks(model):
        return "none"
    places, kinds = set(), set()
    for block in (stack.blocks[0] for stack in stacks(model)):
        inside = [module for module in block.children() if module in seen]
        found = [module for module in inside if isinstance(module, (nn.LayerNorm, nn.RMSNorm))]
        kinds |= {"RMSNorm" if isinstance(norm, nn.RMSNorm) else "LayerNorm" for norm in found}
        parts = [seen[part] for part in inside if part not in found]
        places |= {place(seen[norm], parts) for norm in found}
    where = [word for word in ("before", "behind", "after") if word in places]
    return f"{' and '.join(sorted(kinds))} {' and '.join(where)}"


def place(norm, parts):
    """Where one norm stands; all are calls: (args, keywords, result)."""
    (y, *_), _, normed = norm
    for (x, *_), _, result in parts:
        if y is result:
            return "behind"
        if torch.equal(y, x + result):
            return "after"
    return "before" if any(args[0] is normed for args, *_ in parts) else "elsewhere"


def queries_and_keys(attention, x, positions):
    """q (1, H, T, K) and k as they meet, where the layer turns them, else as they are projected."""
    q, k, _ = attention.project(x)
    return attention.turn(q, k, positions) if hasattr(attention, "turn") else (q, k)


def queries(model, seen):
    """Do queries and keys stay as long as they are when what they are made of is three times as long?"""
    if not stacks(model):
        return "none"
    attention = stacks(model)[0].blocks[0].attention
    (x, *_), how, _ = seen[attention]
    one, three = (queries_and_keys(attention, n * x, how.get("positions")) for n in (1, 3))
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(one, three))
    return "normed" if same else "plain"


def turned(attention, how):
    """Does the layer turn one and the same query by its position, and leave it as long?"""
    if not hasattr(attention, "turn"):
        return False
    q = torch.randn(1, attention.n_heads, 1, attention.out.in_features // attention.n_heads).expand(
        -1, -1, T, -1
    )
    q, _ = attention.turn(q, q, how.get("positions"))
    return not torch.allclose(q[:, :, :1], q) and torch.allclose(q.norm(dim=-1), q[:, :, :1].norm(dim=-1))


def positions(model, seen):
    """How the model knows where a token stands."""
    if not stacks(model):
        return "none: in order"
    found, other = [], calls(model, text(model, seed=1))
    for module, (args, *_) in seen.items():  # what is fed the same whatever the text says is about places
        told = isinstance(module, (nn.Embedding, nn.Linear)) and torch.equal(args[0], other[module][0][0])
        if told and isinstance(module, nn.Linear):
            found.append("relative vectors")
        elif told and len(args[0].unique()) > 1:
            found.append("learned table" if args[0].numel() == T else "relative buckets")
    for stack in stacks(model):
        for part in (part for part in stack.children() if part in seen and part is not stack.blocks):
            (x, *_), _, result = seen[part]
            if x.shape == result.shape and x.dim() == 3 and not torch.equal(reach(part, x), torch.eye(T) > 0):
                found.append("convolution")
        words = ["rotary" if turned(b.attention, seen[b.attention][1]) else "without" for b in stack.blocks]
        found += [some(words, "rotary")] if "rotary" in words else []
        (x, *_) = calls(model, [torch.full_like(ids, 7) for ids in text(model)])[stack.blocks[0]][0]
        waves = sinusoids(T, x.size(-1))
        found += ["sinusoids"] if torch.allclose(x[0] - x[0, 0], waves - waves[0], atol=1e-4) else []
    return " and ".join(dict.fromkeys(found)) or "none"


def net(model, seen):
    """How the net of a block bends, whether it is gated, and how many of its experts a token meets."""
    if not stacks(model):
        return "none"
    part = stacks(model)[0].blocks[0].feed_forward
    with Bends() as bends:
        out = part(seen[part][0][0][:, :1])  # one token
    words = ["gated"] * bends.gated + list(dict.fromkeys(bends.names))
    grads = torch.autograd.grad(out.sum(), list(part.parameters()), allow_unused=True)
    used = {(g.size(0), int(g.flatten(1).any(1).sum())) for g in grads if g is not None and g.dim() == 3}
    experts = [f", {n} of {size} experts" for size, n in used if n < size]
    return " ".join(words) + "".join(experts)


def keys(model, seen):
    """As many heads of keys as of queries?"""
    if not stacks(model):
        return "none"
    attention = stacks(model)[0].blocks[0].attention
    q, k, _ = attention.project(seen[attention][0][0])
    return "one each" if q.size(1) == k.size(1) else "may be shared"


def biases(model, seen):
    """Which matrices of the blocks have biases?"""
    if not stacks(model):
        return "yes" if any("bias" in name for name, _ in model.named_parameters()) else "no"
    block = stacks(model)[0].blocks[0]
    has = []
    for part in (block.attention, block.feed_forward):
        has.append(any(m.bias is not None for m in part.modules() if isinstance(m, nn.Linear)))
    return {(True, True): "yes", (False, False): "no"}.get(
        tuple(has), "in the attention" if has[0] else "in the net"
    )


def layers(model, seen):
    """Are the layers one and the same block?"""
    same = any(stack.blocks[0] is stack.blocks[1] for stack in stacks(model))
    return "shared" if same else "own"


def words_table(model, seen):
    """The table that is fed the ids, or None where the model hears."""
    ids = text(model)[0]
    tables = [
        m for m, (args, *_) in seen.items() if isinstance(m, nn.Embedding) and torch.equal(args[0], ids)
    ]
    return tables[0] if tables else None


def embedding(model, seen):
    """Are the vectors of the words as long as the states?"""
    table = words_table(model, seen)
    if table is None:
        return "none: sound"
    return "narrow" if table.embedding_dim < model.config.d_model else "wide"


def head(model, seen):
    """Is the matrix that chooses words the table that reads them?"""
    if seen[model][2].shape[-1] != V:
        return ""
    matrices = [p for p in model.parameters() if p.dim() == 2 and len(p) == V]
    return "tied" if len(matrices) == 1 and words_table(model, seen) is not None else "own"


def segments(model, seen):
    """Is a token told which of two texts it belongs to?"""
    if "segments" not in inspect.signature(model.forward).parameters:
        return "no"
    ids = text(model)[0]
    try:
        return (
            "yes"
            if not torch.equal(model(ids), model(ids, segments=(torch.arange(T) > 4).long()[None]))
            else "no"
        )
    except IndexError:  # a table of one kind
        return "no"


SWITCHES = {
    "looks": looks,
    "norm": norms,
    "q and k": queries,
    "positions": positions,
    "net": net,
    "keys": keys,
    "biases": biases,
    "layers": layers,
    "word vectors": embedding,
    "head": head,
    "segments": segments,
}


# The table -------------------------------------------------------------------------------------------


def switches(make, configs, heads=(None,)):
    """{switch: "what the first config has", or "this or that" where another config or head has another}."""
    found = {name: [] for name in SWITCHES}
    for config in configs:
        for kind in heads:
            model = small(make, config, kind)
            seen = calls(model, text(model))
            for name, ask in SWITCHES.items():
                found[name].append(ask(model, seen))
    return {name: " or ".join(word for word in dict.fromkeys(words) if word) for name, words in found.items()}


def page_of(thing):
    """The page that builds a class, by its module's own words; "" where no page does."""
    first = (sys.modules[thing.__module__].__doc__ or "").partition(",")[0]
    return first.removeprefix("The code of lesson ") if first.startswith("The code of lesson ") else ""


def rows():
    """The table as a list of dicts, one for each family; lesson 05's Transformer is the first."""
    plain = Config(**{name: size for name, size in TINY.items() if hasattr(Config, name)})
    table = [{"family": "Transformer", "page": page_of(Transformer), **switches(Transformer, [plain])}]
    own = own_lines()
    for model_type, family in zoo.FAMILIES.items():
        heads = [kind for kind in zoo.says(family, "classes") if kind] or [None]
        row = {"family": family.__name__, "page": page_of(family)}
        row |= switches(family, variants(family), heads)
        table.append(row | {"model_type": model_type, "lines": own[family.__name__]})
    return table


def markdown():
    """data/families.md: the table, what differs from lesson 05's Transformer in bold."""
    table = rows()
    order = ["family", "page", *SWITCHES, "model_type", "lines"]
    lines = [f"| {' | '.join(order)} |", "|" + "---|" * len(order)]
    for row in table:
        cells = []
        for name in order:
            cell = str(row.get(name) or "")
            differs = name in SWITCHES and cell != table[0][name]
            cells.append(f"**{cell}**" if differs and cell else cell)
        if row["page"]:
            cells[1] = f"[{row['page']}](../notebooks/{row['page']}.ipynb)"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([HEAD, *lines, "", FOOT.format(total=sum(row.get("lines") or 0 for row in table))])


HEAD = """<!-- Made by utils/family_table.py from the classes: never edit, `make made`. -->

# The families as switches

Every family that `zoo.from_transformers` opens, built small and asked what it does; **bold** is what differs from the
Transformer of lesson 05. "This or that": the published files may choose.
"""
FOOT = """- **looks** who sees whom; with two stacks, the one that reads + the one that writes
- **norm** which one, and where: before a part, behind it on its branch, or after the sum · **q and k**, queries and
  keys: normed, or plain
- **positions** how a token's place is known · **net** how the feed-forward net bends
- **keys** one head of keys and values for each head of queries, or one that several may share · **biases** in the
  matrices of the blocks
- **layers** each its own block, or one that they share · **word vectors** as wide as the states, or narrow
- **head** the matrix that chooses words: the table that reads them (tied), or its own · **segments** of two texts
- **model_type** in the `config.json` that it is opened from · **lines** of code that the family adds to those above it,
  docstrings and tables of names included: {total} in all
"""


# Lines of code ---------------------------------------------------------------------------------------


def names_in(node):
    """The global names that a statement reads: all but the arguments and the variables of its functions."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        inside = list(ast.walk(node))
        bound = {n.arg for n in inside if isinstance(n, ast.arg)}
        bound |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    else:
        bound = set()
    found = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else set()
    return found.union(*(names_in(child) for child in ast.iter_child_nodes(node))) - bound


def root(target):
    """The names that an assignment to `target` says something about: X of X, X.a, X[0] and (X, Y)."""
    if isinstance(target, (ast.Tuple, ast.List)):
        return set().union(*map(root, target.elts))
    while isinstance(target, (ast.Attribute, ast.Subscript)):
        target = target.value
    return {target.id} if isinstance(target, ast.Name) else set()


@cache
def statements(path):
    """A module's top level: [(the names that a statement defines or says something about, the statement, its lines)],
    and what it imports from lessons. Decorators, docstrings and comments are lines, blank ones are not."""
    text = path.read_text(encoding="utf-8")
    found, imports = [], {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("utils.lessons."):
            source = node.module.rpartition(".")[2]
            imports |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
            continue
        names = {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else set()
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        calls = [node.value.func] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else []
        names = names.union(*(root(target) for target in (*targets, *calls)))
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        lines = text.splitlines()[first - 1 : node.end_lineno]
        found.append((names, node, sum(bool(line.strip()) for line in lines)))
    return found, imports


def family_modules():
    """{module: (statements, imports)} of the lessons whose code is the families'."""
    folder = Path(__file__).parent / "lessons"
    pages = [name for part in course.PAGES.values() for name in part if FIRST_PAGE <= name[:2] <= LAST_PAGE]
    heads = {path: path.read_text(encoding="utf-8").split(",")[0] for path in sorted(folder.glob("[!_]*.py"))}
    return {path.stem: statements(path) for path, head in heads.items() if head.endswith(tuple(pages))}


def reached(modules, start):
    """{(module, number of a statement)} that the definition `start`, (module, name), needs."""
    todo, known, found = [start], set(), set()
    while todo:
        module, name = todo.pop()
        if (module, name) in known or module not in modules:
            continue
        known.add((module, name))
        code, imports = modules[module]
        if name in imports:
            todo.append(imports[name])
        for number, (names, node, _) in enumerate(code):
            if name in names:
                found.add((module, number))
                todo += [(module, other) for other in names_in(node)]
    return found


@cache
def family_code():
    """{name of a family: [(module, statement, lines)]}: the code that each family adds to those before it."""
    modules, before, added = family_modules(), set(), {}
    for family in (*zoo.FAMILIES.values(), SentenceEncoder):
        needs = reached(modules, (family.__module__.rpartition(".")[2], family.__name__))
        added[family.__name__] = [
            (module, *modules[module][0][n][1:]) for module, n in sorted(needs - before)
        ]
        before |= needs
    return added


def own_lines():
    """{name of a family: lines of code that it adds to those before it}."""
    return {name: sum(lines for *_, lines in code) for name, code in family_code().items()}
