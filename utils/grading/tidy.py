"""From the text of a notebook cell to plain Python: commands of the notebook go, odd characters are mended.

Nothing here is run. What is Python already stays as it is, letter by letter, and lines keep their numbers.
"""

import ast
import re
import textwrap
import threading
import warnings

# `%%name` cells whose body is Python that the page sees, and those whose body is not.
PYTHON = {"time", "timeit", "capture", "prun", "debug", "memit", "mprun", "mypy"}
FOREIGN = {
    *("bash", "sh", "script", "cmd", "system", "sx", "!", "perl", "ruby", "R", "sql", "bigquery", "cython"),
    *("python", "python2", "python3", "pypy", "html", "HTML", "js", "javascript", "svg", "SVG", "latex"),
    *("markdown", "writefile", "file", "writetemplate", "shell", "julia", "cpp", "ai", "skip"),
}
LINE = r"(?:[^\\\n]|\\.)*\\?"  # to the end of the line, and on where a backslash says so
COMMAND = re.compile(
    rf"(?P<indent>[ \t]*)(?:%time[ \t]+(?P<timed>[^\s-][^\n]*)|[%!?,;/]{LINE}|[\w., \t]+=[ \t]*[%!]{LINE}"
    r"|%{0,2}[\w.*]+\?{1,2}[ \t]*(?=\n|\Z))",
    re.DOTALL,
)
TOKEN = re.compile(
    r"""#[^\n]*|"{3}(?:[^\\]|\\.)*?(?:"{3}|\Z)|'{3}(?:[^\\]|\\.)*?(?:'{3}|\Z)|"(?:[^"\\\n]|\\.)*"?"""
    r"""|'(?:[^'\\\n]|\\.)*'?|\\\n|\n|[\[({]|[\])}]|[^#"'\\\n\[\](){}]+|.""",
    re.DOTALL,
)
SPACES = dict.fromkeys(map(ord, "\u00a0\u1680\u2002\u2003\u2007\u2009\u202f\u3000"), " ")
SPACES |= dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"), "")
QUOTES = dict.fromkeys(map(ord, "“”„‟″"), '"') | dict.fromkeys(map(ord, "‘’‚‛′"), "'")
SCOPES = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda
LOCK = threading.Lock()  # filters of warnings belong to the whole process


def parse(source):
    """The syntax tree of `source`, or None if it is not Python."""
    with LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def tidy(source):
    """(the source as plain Python, as far as that can be; what was done to it, a list of phrases)."""
    done = []
    if "\0" in source:
        source = source.replace("\0", "")
        done.append("an invisible NUL character was taken out")
    tree = parse(source)
    if tree is None:
        source, said = without_commands(source)
        done += said
        tree = parse(source)
    if tree is None:
        source, said = mended(source)
        done += said
        tree = parse(source)
    if tree is not None and any(map(awaits, tree.body)):
        source = without_lines(source, [node for node in tree.body if awaits(node)])
        done.append("`await` outside a function was left out")
    return source, done


def tokens(source):
    """Rough pieces of the source in order: comments, strings, brackets, line ends, and all between."""
    return (match[0] for match in TOKEN.finditer(source))


def without_commands(source):
    """The source without lines that only a notebook understands (`%…`, `!…`, `…?`), and what was done."""
    head = re.match(r"\s*%%[ \t]*(!|\w+)[^\n]*", source)
    if head and (head[1] in FOREIGN or head[1] not in PYTHON and parse(source[head.end() :]) is None):
        return "", [f"all below `%%{head[1][:20]}` is not Python of this page and was left out"]
    kept, found, start = [], [], 0
    if head:
        kept, found, start = ["\n" * head[0].count("\n")], [head[0].strip()], head.end()
    at, depth, fresh = start, 0, not head
    while at < len(source):
        if fresh and depth == 0 and (command := COMMAND.match(source, at)):
            found.append(command[0].strip())
            instead = command["timed"] or ("pass" if command["indent"] else "")
            kept.append(command["indent"] + instead + "\n" * command[0].count("\n"))
            at, fresh = command.end(), False
            continue
        token = TOKEN.match(source, at)[0]
        depth = max(0, depth + (token in "[({") - (token in "])}"))
        kept.append(token)
        at, fresh = at + len(token), token == "\n"
    if not found:
        return source, []
    named = ", ".join(f"`{squeezed(command, 40)}`" for command in found[:3]) + (" …" if found[3:] else "")
    return "".join(kept), [f"commands of the notebook, which are not Python, were left out: {named}"]


def squeezed(text, most):
    """The text on one line, `most` characters at the most."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def outside_strings(table):
    """A function that translates the characters of code by `table`, and leaves strings and comments as they are."""
    return lambda source: "".join(
        token if token[0] in "#\"'" else token.translate(table) for token in tokens(source)
    )


def without_prompts(source):
    """Without the `>>> ` and `... ` of a copied session, and without the indentation that all lines share."""
    if source.lstrip().startswith(">>>"):
        source = re.sub(r"^[ \t]*(?:>>>|\.\.\.)[ ]?", "", source, flags=re.MULTILINE)
    return textwrap.dedent(source)


MENDS = [
    (without_prompts, "the indentation or the prompts that stand before every line were taken off"),
    (outside_strings(SPACES), "non-breaking or invisible spaces were read as plain ones"),
    (outside_strings(QUOTES), "typographic quotes were read as plain ones"),
    (lambda source: source.expandtabs(4), "tabs among spaces were read as four spaces"),
]


def mended(source):
    """The source with the fewest mends that make it Python, and what was done; if none do, as it was."""
    now, done = source, []
    for mend, phrase in MENDS:
        if (after := mend(now)) != now:
            now, done = after, [*done, phrase]
            if parse(now) is not None:
                return now, done
    return source, []


def awaits(node):
    """Whether a statement awaits outside any function, which only a notebook can do."""
    found = [node]
    while found:
        node = found.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) or getattr(node, "is_async", 0):
            return True
        if not isinstance(node, SCOPES):
            found += ast.iter_child_nodes(node)
    return False


def without_lines(source, nodes):
    """The source with empty lines where these statements stand."""
    lines = source.split("\n")
    for node in nodes:
        lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)
