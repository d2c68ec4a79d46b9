"""For maintainers: run the pages, and make every file that is made.

    python -m utils.pages run [NAME …]   execute pages, two at a time, and store them in one normal form
    python -m utils.pages run --measure  one at a time, and note in data/pages.json what each of them took
    python -m utils.pages made           write what is made: lesson modules, the students' homework, all of MADE
    python -m utils.pages compare        exit 1 and name each made file that is not what its source makes

What a page says to this module
- Notebook metadata `course.lesson` names the module that the code cells tagged `export` become.
- A cell tagged `nbval-ignore-output` may print what the machine decides. Its stored output stays as long as its
  code and all code before it stay. After a change in utils/ or data/, `run --fresh` takes every output anew.
- A cell tagged `hub` needs a network. It starts with `if course.online():` and is tagged `nbval-ignore-output`
  too: so it runs everywhere and does nothing offline. Pages run here as if offline, unless COURSE_ONLINE=1; what
  was stored online stays. To take it anew: `COURSE_ONLINE=1 python -m utils.pages run --fresh 07`.
- In solutions/hw*.ipynb, `### BEGIN SOLUTION` … `### END SOLUTION` stand in code cells with nbgrader's metadata
  `solution`, `### BEGIN HIDDEN TESTS` … `### END HIDDEN TESTS` in code cells with `grade`. They, written answers
  (Markdown cells with `solution`) and cells tagged `solution-only` never reach the student's file.
"""

import argparse
import ast
import asyncio
import base64
import hashlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from functools import partial
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from utils import course, peak, setup

ROOT = Path(__file__).resolve().parents[1]
FREE = "nbval-ignore-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
THREADS = "OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM"
CELL_KEYS = {"course", "deletable", "editable", "jupyter", "nbgrader", "tags"}
NBGRADER_KEYS = {"cell_type", "grade", "grade_id", "locked", "points", "schema_version", "solution", "task"}
NOTEBOOK = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
}


class Refusal(Exception):
    """One plain sentence or two: what is wrong, where, and how to mend it."""


# A page on disk ----------------------------------------------------------------------------------------------


def short(path):
    """The path as people say it: from the course's root, with / everywhere."""
    return path.relative_to(ROOT).as_posix()


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def squeeze(text):
    """The text with single spaces for all white space, so that neither indentation nor line ends matter."""
    return " ".join(text.split())


def strings(node):
    """Every string in nested lists and dicts, keys included."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for part in [*node, *node.values()] if isinstance(node, dict) else node:
            yield from strings(part)


def give_ids(cells):
    """Make the id of every cell valid and unique; ids that already are stay, new ones follow from the source."""
    seen = set()
    for cell in cells:
        turn = 0
        while cell.get("id") in seen or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", cell.get("id", "")):
            cell["id"] = hashlib.sha256(f"{turn} {cell['source']}".encode()).hexdigest()[:8]
            turn += 1
        seen.add(cell["id"])


def read(path):
    """The notebook at `path` in format 4.5, with LF line ends and an id for every cell."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
        raw["nbformat_minor"] = 5
        for cell in raw["cells"]:
            cell["source"] = "".join(cell["source"]).replace("\r\n", "\n").replace("\r", "\n")
        give_ids(raw["cells"])
        nb = nbformat.from_dict(raw)
        nbformat.validate(nb)
        return nbformat.reads(json.dumps(raw), as_version=4)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = squeeze(str(error) or type(error).__name__)[:200]
        raise Refusal(f"{short(path)} cannot be read as a notebook of format 4: {reason}") from None


def as_text(nb):
    """The notebook as the text that is stored: sorted keys, one space of indentation, a newline at the end."""
    return nbformat.writes(nb).rstrip("\n") + "\n"


def write(path, text):
    """Replace the file as a whole or not at all; True if its content changed."""
    data, there = text.encode(), path.exists()
    if there and path.read_bytes() == data:
        return False
    if there and not path.stat().st_mode & 0o222:
        raise Refusal(f"{short(path)} is read-only and was left as it was: allow writing, then run again.")
    try:
        with course.atomic(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise Refusal(f"{short(path)} was left as it was, it cannot be written: {error.strerror}.") from None
    return True


# Normal form: nothing of the machine, nothing of the moment ----------------------------------------------------


def private_places():
    """Patterns for the paths of this machine, longest first, each with what a stored page says instead."""
    paths, home = sysconfig.get_paths(), str(Path.home())
    places = {paths["purelib"]: "site-packages", paths["stdlib"]: "python", str(ROOT): "course"}
    if len(home) > 1:
        places |= {
            "~" + place.removeprefix(home): name for place, name in places.items() if place.startswith(home)
        }
        places[home] = "~"
    return {re.escape(place) + r"(?!\w)": places[place] for place in sorted(places, key=len, reverse=True)}


def scrub(node, places):
    """The same nested output without object addresses and private paths; pictures stay as they are."""
    if isinstance(node, dict):
        return {key: part if key.startswith("image/") else scrub(part, places) for key, part in node.items()}
    if isinstance(node, list):
        return [scrub(part, places) for part in node]
    if not isinstance(node, str):
        return node
    for pattern, name in places.items():
        node = re.sub(pattern, name, node)
    return re.sub(r"\bat 0x[0-9a-fA-F]+", "at 0x0", node)


def plain_png(picture):
    """A base64 PNG without the chunks that name its maker or its date; size, density and pixels stay."""
    data = base64.b64decode(picture)
    kept, at = data[:8], 8  # the signature; then chunks of length (4 bytes), kind (4), content, checksum (4)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf"):
            kept += data[at:end]
        at = end
    return base64.b64encode(kept).decode()


def tidy(outputs, count):
    """A cell's outputs in normal form: streams merged, no live widgets, plain pictures, nothing private."""
    tidied = []
    for output in outputs:
        data = output.get("data", {})
        if data.pop(WIDGET, None) and set(data) <= {"text/plain"}:
            continue
        if "image/png" in data:
            data["image/png"] = plain_png(data["image/png"])
        if output.output_type == "execute_result":
            output.execution_count = count
        if output.output_type == "stream" and tidied and tidied[-1].get("name") == output.name:
            tidied[-1].text += output.text
        else:
            tidied.append(output)
    places = private_places()
    return [nbformat.from_dict(scrub(output, places)) for output in tidied]


def normalise(nb):
    """Put an executed notebook, in place, into the one form that is stored."""
    course = nb.metadata.get("course")
    nb.metadata = nbformat.from_dict(NOTEBOOK | ({"course": course} if course else {}))
    for cell in nb.cells:
        kept = {
            key: value for key, value in cell.metadata.items() if key in CELL_KEYS and value not in ([], {})
        }
        cell.metadata = nbformat.from_dict(kept)
    count = 0
    for cell in code_cells(nb):
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = tidy(cell.outputs, count)
    return nb


def complaint(cell):
    """Why this executed code cell may not be stored, as the end of a sentence; None if it may."""
    free, places = FREE in tags(cell), "|".join(private_places())
    if "hub" in tags(cell) and not (free and re.match(r"(#.*\n)*if course\.online\(\):", cell.source)):
        return f"is tagged `hub`: tag it `{FREE}` too and let it start with `if course.online():`"
    if not free and re.search(r";[ \t]*(#.*)?\Z", cell.source):
        return "ends with `;`, which hides a value from Jupyter but not from nbval: assign it to `_`"
    for output in cell.outputs:
        if output.get("name") == "stderr":
            return f"writes a warning: {squeeze(output.text)[:200]}"
        if re.search(r"\r(?!\n)", output.get("text", "")):
            return "prints a progress bar"
        if WIDGET in output.get("data", {}) and not free:
            return f"shows a widget: tag it `{FREE}` and show a figure beside it"
        shown = "\n".join(strings({key: part for key, part in output.items() if key != "traceback"}))
        if not free and (found := re.search(places, shown)):
            return f"prints {found[0]}, a path of this machine: print it from the course's root"


def same_picture(one, other):
    """Whether two base64 PNGs have one size and no pixel differs by more than 16 of 255, too little to see."""
    from PIL import Image, ImageChops

    one, other = (Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA") for png in (one, other))
    if one.size != other.size:
        return False
    return max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 16


def seal(code, outputs):
    """A short hash: `run` stored exactly these outputs behind exactly this code."""
    return hashlib.sha256(json.dumps([code, outputs], sort_keys=True).encode()).hexdigest()[:16]


def settle(nb, stored, fresh=False):
    """Give the newly run `nb` what only the machine would change of the `stored` one; both in normal form."""
    code = []
    for cell, old in zip(code_cells(nb), code_cells(stored), strict=True):
        code.append(cell.source)
        sealed = cell.metadata.pop("course", {}).get("sealed") == seal(code, old.outputs)
        if FREE in tags(cell):
            if old.outputs and sealed and not fresh:
                cell.outputs = old.outputs
            if cell.outputs:
                cell.metadata["course"] = {"sealed": seal(code, cell.outputs)}
            continue
        for new, before in zip(cell.outputs, old.outputs, strict=False):
            pictures = [output.get("data", {}).get("image/png") for output in (new, before)]
            if all(pictures) and same_picture(*pictures):
                new.data["image/png"] = pictures[1]


def reword(path, change):
    """Give each code cell `change(its source)`, where that changes no result: what is stored stays valid."""
    nb = read(path)
    before, after = [], []
    for cell in code_cells(nb):
        before.append(cell.source)
        cell.source = change(cell.source)
        after.append(cell.source)
        if cell.metadata.get("course", {}).get("sealed") == seal(before, cell.outputs):
            cell.metadata["course"]["sealed"] = seal(after, cell.outputs)
    return write(path, as_text(nb))


# Running -------------------------------------------------------------------------------------------------------


class ThisPython(KernelSpecManager):
    """Whatever kernel a page names, it gets the interpreter that runs this line."""

    def get_kernel_spec(self, kernel_name):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


async def execute(nb, path, timeout):
    """Run all cells in the page's own folder, in a kernel with one thread and no settings of the user.

    Returns {"seconds": of processor time, "peak": bytes} of the kernel and what it started; 0 where nothing tells.
    """
    env = dict(os.environ, TOKENIZERS_PARALLELISM="false", **{f"{name}_NUM_THREADS": "1" for name in THREADS})
    env.setdefault("COURSE_ONLINE", "0")
    at, took = [], {"seconds": 0.0, "peak": 0}

    def look():
        """Note the most that is known so far."""
        if pid := getattr(kernel.provisioner, "pid", None):
            took["peak"] = max(took["peak"], peak.held(pid))
            took["seconds"] = max(took["seconds"], peak.spent(pid))

    async def watch():
        """Look now and then: what the kernel starts may be gone when a cell ends."""
        while True:
            look()
            await asyncio.sleep(0.5)

    with tempfile.TemporaryDirectory() as temp:
        kernel = AsyncKernelManager(kernel_spec_manager=ThisPython(), connection_file=f"{temp}/kernel.json")
        client = NotebookClient(nb, km=kernel, timeout=timeout, record_timing=False, store_widget_state=False)
        client.on_cell_start = lambda cell, cell_index: at.append(cell_index)
        client.on_cell_executed = lambda **_: look()
        client.log.disabled = True
        settings = dict(cwd=str(path.parent), env=env | {"IPYTHONDIR": temp}, stderr=subprocess.DEVNULL)
        watching = asyncio.ensure_future(watch())
        try:
            await client.async_execute(cleanup_kc=True, **settings)
            return took
        except CellExecutionError as error:
            line = re.search(r"^-+> *\d+ (.+)$", re.sub(r"\x1b\[[\d;]*m", "", error.traceback), re.MULTILINE)
            said = squeeze(f"{error.ename}: {error.evalue}").removesuffix(":")[:200]
            reason = f"`{line[1].strip()}` raised {said}" if line else said
        except CellTimeoutError:
            reason = f"it took longer than {timeout} seconds"
        except DeadKernelError:
            reason = "its kernel died, perhaps for want of memory"
        except RuntimeError as error:
            raise Refusal(f"{short(path)} did not start: {squeeze(str(error))[:200]}") from None
        finally:
            watching.cancel()
    raise Refusal(f"{short(path)} stopped at cell {at[-1] + 1} ({nb.cells[at[-1]].id}): {reason}")


async def run_page(path, fresh=False, timeout=120, took=None):
    """Execute one page and store it in normal form; True if the file changed. A refused page stays untouched.

    took: a dict that gets what the page took, {path: {"seconds": …, "peak": bytes}}
    """
    before, nb, stored = path.read_bytes(), read(path), read(path)
    found = await execute(nb, path, timeout)
    if took is not None:
        took[short(path)] = {"seconds": round(found["seconds"], 1), "peak": round(found["peak"], -6)}
    if reason := peak.too_much(found["peak"]):
        raise Refusal(f"{short(path)} {reason}.")
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "code" and (reason := complaint(cell)):
            raise Refusal(f"{short(path)}, cell {number} ({cell.id}), {reason}")
    settle(normalise(nb), normalise(stored), fresh)
    source = ROOT / "solutions" / path.name
    if path != source and source.exists():
        refuse_leak(read(source), nb, source)
    if path.read_bytes() != before:
        raise Refusal(f"{short(path)} was edited while it ran: run it again")
    return write(path, as_text(nb))


def lesson_pages():
    return [page for page in sorted(ROOT.glob("notebooks/*.ipynb")) if not page.name.startswith("hw")]


def all_pages():
    """Lessons, the homework's sources, then the homework as students get it."""
    return lesson_pages() + sorted(ROOT.glob("solutions/*.ipynb")) + sorted(ROOT.glob("notebooks/hw*.ipynb"))


def pages_named(names):
    """The pages meant by `07`, `07_decoding`, `hw07` (both files), `solutions/hw07`; with no name all that are done."""
    found = set() if names else {ROOT / page for page in setup.finished(ROOT)}
    for name in names:
        stem, folder = Path(name).stem, Path(name).parent.name
        meant = {page for page in all_pages() if f"{page.stem}_".startswith(f"{stem}_")}
        meant = {page for page in meant if page.parent.name == folder or not folder}
        if not meant:
            raise Refusal(
                f"There is no page {name}: there are {', '.join(page.stem for page in all_pages())}."
            )
        found |= meant
    return [page for page in all_pages() if page in found]


def leave_signals(*_):
    """Stands for the loop's `add_signal_handler`: nbclient's handler ends one kernel, asyncio's own ends all."""
    raise RuntimeError


async def run_pages(paths, fresh, timeout, took=None):
    """Run pages and print a line for each that is done; the number of refused ones.

    Two run at a time; only one where `took`, a dict, is to get what each of them took.
    """
    asyncio.get_running_loop().add_signal_handler = leave_signals
    gate = asyncio.Semaphore(2 if took is None else 1)

    async def timed(path):
        async with gate:
            start = time.perf_counter()
            try:
                done = "stored" if await run_page(path, fresh, timeout, took) else "unchanged"
            except Refusal as refusal:
                done = refusal
            return path, time.perf_counter() - start, done

    refused = 0
    for page in asyncio.as_completed([timed(path) for path in paths]):
        path, seconds, done = await page
        if took:
            note(took)
        refused += isinstance(done, Refusal)
        said = str(done).removeprefix(short(path)).lstrip(", ")
        print(f"{short(path):45} {seconds:6.1f} s   {said}", flush=True)
    return refused


# Measured: what each page takes ----------------------------------------------------------------------------------


def machine():
    """What pages are measured on, in a few words."""
    name, sets = course.processor()
    return f"{name}, one thread" + (f", {'avx512' if 'avx512f' in sets else sets[0]}" if sets else "")


def note(took):
    """Write what pages took into data/pages.json, beside what is known of the others on the same machine."""
    place = ROOT / "data" / "pages.json"
    old = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    rows = (old["pages"] if old.get("machine") == machine() else {}) | took
    rows = {name: rows[name] for name in sorted(rows) if (ROOT / name).exists()}
    write(place, json.dumps({"machine": machine(), "pages": rows}, indent=1) + "\n")


def measured_table():
    """data/pages.md: what each page took, from data/pages.json."""
    known = json.loads((ROOT / "data" / "pages.json").read_text(encoding="utf-8"))
    rows = known["pages"]
    lines = [f"| {name} | {row['seconds']:.1f} | {row['peak'] / 1e6:,.0f} |" for name, row in rows.items()]
    seconds, most = sum(row["seconds"] for row in rows.values()), max(row["peak"] for row in rows.values())
    head = f"""# What each page takes

Made from `data/pages.json`, which `python -m utils.pages run --measure` writes: one page at a time, from top to
bottom in a fresh kernel, offline. Seconds are processor time, the start of the kernel included, so that other work on
the machine does not count; memory is the peak of the kernel with what it starts.
Measured on: {known["machine"]}.

{len(rows)} pages, {seconds / 60:.1f} minutes one after the other; the largest holds {most / 1e6:,.0f} MB, and none may
hold more than {peak.LIMIT / 1e6:,.0f} MB.

| page | seconds | peak MB |
|---|---|---|
"""
    return head + "\n".join(lines) + "\n"


# Made: a module from the exported cells of a lesson ----------------------------------------------------------------


def ruff(*arguments, path, code):
    """Pass code through ruff with the settings for a file at `path`; its exit status and what it prints."""
    flags = ["--no-cache", "--quiet", f"--stdin-filename={path}", "-"]
    command = [sys.executable, "-m", "ruff", *arguments, *flags]
    done = subprocess.run(command, input=code, capture_output=True, encoding="utf-8", cwd=ROOT)
    if done.returncode > 1 or "No module named" in done.stderr:
        raise Refusal(f"ruff could not work on {short(path)}: {squeeze(done.stderr)[:200]}")
    return done.returncode, done.stdout


def split_imports(source, where):
    """Part an exported cell into its imports and the rest; refuse what a lesson's module may not hold."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise Refusal(f"{where} is exported but not plain Python: {error.msg}.") from None
    lines, imports = source.splitlines(), []
    for statement in statements:
        if isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant):
            raise Refusal(f"{where} is exported but runs something: an exported cell only defines.")
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(statement))
            if re.search(r"\b(from|import) utils\b(?!\.lessons\.)", imports[-1]):
                raise Refusal(f"{where} is exported but imports more of utils than utils.lessons.")
            for number in range(statement.lineno - 1, statement.end_lineno):
                lines[number] = ""
    rest = "\n".join(lines).strip()
    if len(ast.parse(rest).body) + len(imports) != len(statements):
        raise Refusal(f"{where} has an import and another statement on one line: give each its own.")
    return imports, rest


def module_text(page, nb, path):
    """The module that a page's exported cells make: docstring, imports merged and sorted, cells in order."""
    parts = [
        split_imports(cell.source, f"{short(page)}, cell {cell.id},")
        for cell in code_cells(nb)
        if "export" in tags(cell)
    ]
    imports = [line for found, _ in parts for line in found]
    head = (
        f'"""The code of lesson {page.stem}, for the pages after it.\n\n'
        f'Made from the cells tagged `export` of {short(page)}.\nNever edit: change the page, then `make made`.\n"""'
    )
    code = "\n\n\n".join([head, "\n".join(imports), *(rest for _, rest in parts)])
    ours = "--config=lint.isort.known-first-party=['utils']"
    code = ruff("check", "--select=I,F401", "--fix", ours, path=path, code=code)[1]
    code = ruff("format", path=path, code=code)[1]
    failed, report = ruff("check", "--select=F821,F811", "--output-format=concise", path=path, code=code)
    if failed:
        reason = report.partition(": ")[2].splitlines()[0]
        raise Refusal(f"{short(page)}: its exported cells do not stand alone: {reason}.")
    return code


def lesson_modules():
    """A maker: utils/lessons/<course.lesson>.py for each lesson that exports cells."""
    files = {}
    for page in lesson_pages():
        nb = read(page)
        if any("export" in tags(cell) for cell in nb.cells):
            lesson = nb.metadata.get("course", {}).get("lesson", "")
            path = f"utils/lessons/{lesson}.py"
            if not lesson.isidentifier() or path in files:
                raise Refusal(
                    f"{short(page)}: its course.lesson, {lesson!r}, must be a module name of its own."
                )
            files[path] = partial(module_text, page, nb, ROOT / path)
    return files


def definitions(page, *names, given=None):
    """What a lesson's page defines under these names, without running the page: its plain versions, for comparison.

    given: the names that the definitions may use, as a dict, where the lesson's own module is not enough
    """
    nb = read(ROOT / "notebooks" / f"{page}.ipynb")
    found = dict(vars(importlib.import_module(f"utils.lessons.{nb.metadata['course']['lesson']}")))
    found.update(given or {})
    for cell in code_cells(nb):
        statements = (
            ast.parse(cell.source).body if re.search(r"^(def|class) ", cell.source, re.MULTILINE) else []
        )
        kept = [statement for statement in statements if getattr(statement, "name", None) in names]
        exec(compile(ast.Module(kept, type_ignores=[]), cell.id, "exec"), found)
    return [found[name] for name in names]


# Made: homework as students get it -----------------------------------------------------------------------------

MARK = re.compile(r"\s*### (BEGIN|END) (SOLUTION|HIDDEN TESTS)\s*")
ALMOST = re.compile(r"(?:.*#)?[\W_]*(?:begin|end)[\W_]*(?:solutions?|hidden[\W_]*tests?)\b", re.IGNORECASE)


def graded(cell):
    return cell.metadata.get("nbgrader", {})


def is_answer(cell):
    """Whether the cell is a written answer: students get an empty place instead."""
    return cell.cell_type != "code" and bool(graded(cell).get("solution"))


def labelled(cell, where):
    """Each line of a cell with what it is: "" for all eyes, "mark", "SOLUTION" or "HIDDEN TESTS"."""
    labels, inside, is_code = [], "", cell.cell_type == "code"
    for line in cell.source.splitlines():
        if is_code and (mark := MARK.fullmatch(line)):
            if inside != ("" if mark[1] == "BEGIN" else mark[2]):
                raise Refusal(
                    f"{where}: `{line.strip()}` is out of turn: marks come in pairs and never nest."
                )
            inside = mark[2] if mark[1] == "BEGIN" else ""
            labels.append((line, "mark"))
        elif ALMOST.match(line) or is_code and line.lstrip().startswith("###"):
            raise Refusal(
                f"{where}: `{line.strip()}` is no mark: write it like `### BEGIN SOLUTION`, in code."
            )
        else:
            labels.append((line, inside))
    if inside:
        raise Refusal(f"{where}: `### BEGIN {inside}` has no end.")
    return labels


def stub(source, number, where):
    """What stands for the solution that begins at line `number` (from 0): it raises, with the function's name."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        raise Refusal(f"{where} is not plain Python: {error.msg}.") from None
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    around = [node for node in functions if node.lineno <= number + 1 <= node.end_lineno]
    if not around:
        raise Refusal(f"{where}: its solution stands in no function, so the unsolved page would stop there.")
    return f'raise NotImplementedError("write {max(around, key=lambda node: node.lineno).name} here")'


def cut_code(cell, where):
    """The cell's source as a student gets it: stubs for solutions, nothing for hidden tests."""
    lines = labelled(cell, where)
    kinds = {label for _, label in lines}
    if ("SOLUTION" in kinds) != bool(graded(cell).get("solution")):
        raise Refusal(f"{where}: a marked solution and nbgrader's `solution: true` belong together.")
    if "HIDDEN TESTS" in kinds and not graded(cell).get("grade"):
        raise Refusal(f"{where}: hidden tests need nbgrader's `grade: true`.")
    kept = []
    for number, (line, label) in enumerate(lines):
        if label == "mark" and line.split()[1:] == ["BEGIN", "SOLUTION"]:
            kept.append(line[: line.index("#")] + stub(cell.source, number, where))
        elif label == "":
            kept.append(line)
    return "\n".join(kept).strip("\n")


def cut_cell(cell, where):
    """Make this cell of the source, in place, what a student gets; False if nothing is left of it."""
    if "solution-only" in tags(cell):
        return False
    before = cell.source
    if graded(cell):
        cell.metadata["nbgrader"] = {key: part for key, part in graded(cell).items() if key in NBGRADER_KEYS}
    if is_answer(cell):
        cell.source = "*Your answer here.*"
        cell.pop("attachments", None)
    elif cell.cell_type == "code":
        cell.source = cut_code(cell, where)
    else:
        labelled(cell, where)  # refuses marks in prose
    return bool(cell.source.strip() or not before.strip())


def blank(nb):
    """The notebook, in place, in normal form and as if it had never run."""
    for cell in code_cells(nb):
        cell.outputs = []
    for cell in normalise(nb).cells:
        cell.metadata.pop("course", None)
        if cell.cell_type == "code":
            cell.execution_count = None
    return nb


def cut(source, path):
    """The student's notebook that the homework's source makes; `path` names the source in refusals."""
    student = blank(nbformat.from_dict(source))
    student.metadata.setdefault("course", {})["made"] = f"from {short(path)} by `make made`: never edit"
    student.cells = [cell for cell in student.cells if cut_cell(cell, f"{short(path)}, cell {cell.id}")]
    refuse_leak(source, student, path)
    return student


def secrets(source):
    """What no student may read: (cell id, its lines of 16 characters and more), for each secret place."""
    found = []
    for cell in source.cells:
        lines = cell.source.splitlines()
        if not (is_answer(cell) or "solution-only" in tags(cell)):
            labels = labelled(cell, cell.id)
            found += [(cell.id, [line for line, label in labels if label == "HIDDEN TESTS"])]
            lines = [line for line, label in labels if label == "SOLUTION"]
        found += [(cell.id, lines)]
    return [(cell_id, [line for line in map(squeeze, lines) if len(line) >= 16]) for cell_id, lines in found]


def unpacked(attachment):
    """What base64 stands for, as far as it is text."""
    try:
        return base64.b64decode(attachment).decode("utf-8", "replace")
    except ValueError:
        return ""


def refuse_leak(source, student, path):
    """Refuse a student's notebook that tells, anywhere in it, what its source keeps secret.

    A line that also stands in the open as a whole line is no secret by itself. But it is a leak if that holds for
    all lines of a place, or if a secret line occurs inside other text: comment, output, metadata, attachment.
    """
    public = {squeeze(line) for cell in student.cells for line in cell.source.splitlines()}
    attached = [unpacked(text) for cell in student.cells for text in strings(cell.get("attachments", {}))]
    everything = "\n".join(squeeze(text) for text in [*strings(student), *attached])
    for cell_id, lines in secrets(source):
        for line in [line for line in lines if line not in public] or lines:
            if line in everything:
                raise Refusal(
                    f"{short(path)}: students would read `{line}` from the secret part of cell {cell_id}."
                )


def student_text(path):
    return as_text(cut(read(path), path))


def student_pages():
    """A maker: notebooks/hw*.ipynb from solutions/hw*.ipynb."""
    return {
        f"notebooks/{path.name}": partial(student_text, path)
        for path in sorted(ROOT.glob("solutions/hw*.ipynb"))
    }


# Made: everything ----------------------------------------------------------------------------------------------

# A maker is a function without arguments that returns {path from the course's root: function that returns its
# text}; or the name of one, "module:function", which is imported only when something is made. Add yours here.
MADE = [lesson_modules, student_pages, "utils.house:made"]


def made():
    """All made files: {path from the course's root: function that returns its text}."""
    files = {}
    for maker in MADE:
        if isinstance(maker, str):
            module, _, name = maker.partition(":")
            maker = getattr(importlib.import_module(module), name)
        files |= maker()
    return files


def as_made(path):
    """What a made file holds, as its maker would say it: a page without its outputs; None if it is unreadable."""
    try:
        return as_text(blank(read(path))) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    except (Refusal, OSError, UnicodeDecodeError):
        return None


def stale():
    """Each made file that is not what it should be: its path, and the text that it should hold or a refusal."""
    for path, text in made().items():
        try:
            text = text()
        except Refusal as refusal:
            text = refusal
        if text != as_made(ROOT / path):
            yield path, text


def make():
    """Write what is made; the paths of those that were refused."""
    refused = []
    for path, text in stale():
        if isinstance(text, Refusal):
            refused.append(path)
            print(f"{path} was not made. {text}", file=sys.stderr)
        else:
            write(ROOT / path, text)
            print(f"{path} is made anew")
    return refused


def differences():
    """A sentence for each made file that is not as it should be, with how to mend it."""
    for path, text in stale():
        yield f"{path} is not what its source makes. {text if isinstance(text, Refusal) else 'Run `make made`.'}"
    there = [*ROOT.glob("utils/lessons/[!_]*.py"), *ROOT.glob("notebooks/hw*.ipynb")]
    for path in sorted({short(path) for path in there} - made().keys()):
        yield f"{path} is made by nothing. Write the page that makes it, or delete it."
    for path in sorted(ROOT.glob("notebooks/hw*.ipynb")):
        done = short(path) in setup.finished(ROOT)
        if (
            done
            and as_made(path)
            and any(cell.source and not cell.execution_count for cell in code_cells(read(path)))
        ):
            yield f"{short(path)} is stored without its outputs. Run `make run`."


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python -m utils.pages", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="execute pages and store them in normal form")
    running.add_argument(
        "names", nargs="*", metavar="NAME", help="07, 07_decoding, hw07 or a path; none: all"
    )
    running.add_argument("--measure", action="store_true", help="note what each page takes: data/pages.json")
    running.add_argument("--fresh", action="store_true", help="keep no stored output, take every one anew")
    running.add_argument(
        "--timeout", type=int, default=120, help="seconds for one cell (default: %(default)s)"
    )
    verbs.add_parser("made", help="write every made file that differs")
    verbs.add_parser("compare", help="exit 1 and name each made file that differs")
    return parser.parse_args(arguments)


def main(arguments=None):
    """The command line; returns the exit status."""
    given = parse(arguments)
    try:
        if given.verb == "compare":
            found = list(differences())
            print("\n".join(found) or "Every made file is what its source makes.")
            return int(bool(found))
        refused = len(make())
        if given.verb == "run":
            took = {} if given.measure else None
            refused += asyncio.run(run_pages(pages_named(given.names), given.fresh, given.timeout, took))
            if took:
                refused += len(make())  # the table of what pages take
        return int(bool(refused))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. Pages that were not done are as they were.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
