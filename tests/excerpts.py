"""A page cut down to what one of its cells needs, so that the cell can be tried without running the whole page."""

import ast
import re
import symtable

SETTING = re.compile("set_|manual_seed|seed$")
COMPOUND = ast.For | ast.While | ast.If | ast.With | ast.Try | ast.Match


def root(node):
    """The name that an attribute, an item or a call begins with: `a` of `a.b[c].d()`; None where there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def stored(node):
    """The nodes of a statement or a target that are given a value: names, items, attributes."""
    return [part for part in ast.walk(node) if isinstance(getattr(part, "ctx", None), ast.Store)]


def inner(table):
    """The names that the functions and classes of a symbol table look up on the page."""
    found = set()
    for child in table.get_children():
        found |= {s.get_name() for s in child.get_symbols() if s.is_global() and s.is_referenced()}
        found |= inner(child)
    return found


def spelled(node, source):
    """The source of a statement, with its decorators."""
    first = min(part.lineno for part in [node, *getattr(node, "decorator_list", [])])
    if first < node.lineno:
        return "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    return ast.get_source_segment(source, node)


def needs(node, everything):
    """What a statement needs from before it: `everything` that it uses, less what its own parts bind first."""
    if isinstance(node, ast.If):
        return used(node.test) | needed_by(node.body) | needed_by(node.orelse)
    if isinstance(node, ast.For):
        turn = {root(part) for part in stored(node.target)}
        return used(node.iter) | (needed_by(node.body) - turn) | needed_by(node.orelse)
    if isinstance(node, ast.With):
        opened = {
            root(part) for item in node.items if item.optional_vars for part in stored(item.optional_vars)
        }
        first = set().union(*(used(item.context_expr) for item in node.items))
        return first | (needed_by(node.body) - opened)
    return everything


def used(expression):
    """The names that an expression uses."""
    return Statement(ast.Expr(expression)).uses


def needed_by(nodes):
    """What a row of statements needs from before it."""
    needed = set()
    for statement in map(Statement, reversed(nodes)):
        needed = (needed - statement.binds if statement.settles else needed) | statement.uses
    return needed


class Statement:
    """One statement of a page, as far as its own words tell.

    binds: names that it gives values to   changes: these, and names whose items or attributes it sets
    calls: names of which it calls a method for its own sake   imports: what it binds, if it is an import
    sets: names of which it calls a method that sets something for all, such as `torch.set_grad_enabled(False)`
    uses: names that it needs from before it   inside: those that its functions and classes look up, perhaps later
    settles: it surely runs, so what it binds needs nothing before it
    """

    def __init__(self, node, source=None):
        self.source = spelled(node, source) if source else ""
        table = symtable.symtable(ast.unparse(node), "page", "exec")
        symbols = table.get_symbols()
        self.binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
        self.inside = inner(table)
        defines = isinstance(node, ast.FunctionDef | ast.ClassDef)  # its body does not run here
        parts = [] if defines else list(ast.walk(node))
        grown = {root(part.target) for part in parts if isinstance(part, ast.AugAssign)}
        uses = {s.get_name() for s in symbols if s.is_referenced()} | self.inside | grown
        self.uses = needs(node, uses)
        self.settles = not isinstance(node, COMPOUND)
        self.imports = self.binds if isinstance(node, ast.Import | ast.ImportFrom) else set()
        self.changes = self.binds | (set() if defines else {root(part) for part in stored(node)})
        called = [
            part.func for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
        ]
        alone = [
            part.value.func
            for part in parts
            if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call)
        ]
        self.calls = {root(method) for method in called if method in alone}
        direct = [
            method for method in called if not any(isinstance(part, ast.Call) for part in ast.walk(method))
        ]
        self.sets = {root(method) for method in direct if SETTING.match(method.attr)}


def statements(source):
    """The statements of a cell."""
    return [Statement(node, source) for node in ast.parse(source).body]


def reach(found):
    """{name: all names that what it stands for may look up when it is called}, through other functions too."""
    behind = {}
    for statement in found:
        for name in statement.binds:
            behind.setdefault(name, set()).update(statement.inside)
    grown = True
    while grown:
        before = sum(map(len, behind.values()))
        for names in behind.values():
            names |= set().union(*(behind.get(name, ()) for name in names))
        grown = sum(map(len, behind.values())) > before
    return behind


def excerpt(cells, wanted, instead=None):
    """What the cells `wanted` need of the cells before them, in order, and these cells themselves: {id: source}.

    cells: {id: source}   instead: {name: source that binds it in place of the page's}, for what takes long to make
    A cell with `course.begin()` stays whole. Of the others those statements stay that bind or change a needed name,
    as far as their own words tell: what a function does to its arguments is not seen.
    """
    if lost := set(wanted) - cells.keys():
        raise ValueError(f"There is no cell {', '.join(sorted(lost))} among {', '.join(cells)}.")
    instead, needed, kept = dict(instead or {}), set(), {}
    whole = {name for name, source in cells.items() if "course.begin()" in source}
    parsed = {name: statements(source) for name, source in cells.items() if name not in whole}
    everything = sum(parsed.values(), [])
    behind, modules = reach(everything), set().union(*(statement.imports for statement in everything))
    for name in reversed(parsed):
        for statement in reversed(parsed[name]):
            changes = statement.changes | (statement.calls - modules)
            for replaced in sorted(changes & needed & instead.keys()):
                made = statements(instead.pop(replaced))
                kept.setdefault(name, []).extend(part.source for part in reversed(made))
                needed = needed.difference(*(part.binds for part in made)).union(
                    *(part.uses for part in made)
                )
            sets = statement.sets & modules if needed and statement.settles else set()
            if name in wanted or changes & needed or sets:
                kept.setdefault(name, []).append(statement.source)
                needed = needed - statement.binds if statement.settles else needed
                needed = needed.union(statement.uses, *(behind.get(use, ()) for use in statement.uses))
    if instead:
        raise ValueError(f"{', '.join(wanted)} need nothing called {', '.join(instead)}.")
    kept |= {name: [cells[name]] for name in whole} | {name: [cells[name]] for name in wanted}
    return {name: "\n".join(reversed(kept[name])) for name in cells if name in kept}
