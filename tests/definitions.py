"""What a page defines, for the tests of code that stands on the page alone."""

import ast

from utils import course, pages

DEFINE = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef


def assigned(node):
    """The names that a statement gives values to, a set."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return set()
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}


def of_page(name, given=None, also=lambda node: False):
    """{name: value} of the imports, functions and classes of notebooks/NAME.ipynb; nothing else of it is run.

    given: names that stand before the page begins   also(node): which other statements are run, by their syntax tree
    """
    names = {"__name__": "page", **(given or {})}
    for cell in pages.code_cells(pages.read(course.root() / "notebooks" / f"{name}.ipynb")):
        if {"hub", "widget"} & set(cell.metadata.get("tags", [])) or "course.begin()" in cell.source:
            continue
        kept = [node for node in ast.parse(cell.source).body if isinstance(node, DEFINE) or also(node)]
        exec(compile(ast.Module(kept, []), cell.id, "exec"), names)
    return names
