"""The set-up of a page: seed, threads, look, paths, the network, and the doctor of lesson 00.

Every page begins with the three lines of BOOTSTRAP. They find the course above the page, or fetch it where a page was
opened alone (Colab, Kaggle), and call `begin`. They are written in one place: here; a test compares all pages.
"""

import contextlib
import errno
import functools
import html
import importlib.abc
import importlib.util
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections import namedtuple
from importlib import metadata
from pathlib import Path

from utils import setup

REPO = "https://github.com/OWNER/REPO"  # the public address, once there is one; until then set COURSE_REPO
TAG = "v1"  # what a page that was opened alone fetches: never "main", which may be newer than the page


def bootstrap(repo):
    """The first cell of a page that fetches the course from this address where it stands alone."""
    return f"""\
import os, sys; sys.path[:0] = ["..", ".", "../..", "course"]  # fmt: skip
any(os.path.exists(p + "/utils/course.py") for p in sys.path[:4]) or os.system("git \
-c advice.detachedHead=false clone -qb {TAG} --depth 1 " + (os.environ.get("COURSE_REPO") or "{repo}") \
+ " course") and sys.exit("git could not fetch the course: connect to a network, delete the folder `course` if there \
is one, and run this cell again.")  # fmt: skip
from utils import course; course.begin()  # fmt: skip"""


BOOTSTRAP = bootstrap(REPO)

PAGES = {  # part → page → the one question that it answers
    "Before the Transformer": {
        "00_start_here": "What can a model of eight million numbers do on your laptop?",
        "01_tokens": "What are the symbols a model sees?",
        "02_word_vectors": "How can a word become a vector?",
        "03_recurrent_networks": "Why did the field leave recurrence?",
    },
    "The Transformer": {
        "04_attention": "How can a position look anything up in one step?",
        "05_transformer": "What else is in the block, and why?",
        "06_language_modelling": "Why is predicting the next word the same as compressing?",
    },
    "Decoding": {
        "07_decoding": "The model gives probabilities; who picks the words?",
        "08_likelihood_and_quality": "Why is the likeliest text so bad?",
    },
    "Families of foundation models": {
        "09_bert": "What does a model learn by filling blanks?",
        "10_bert_family": "What did each descendant change, and did it pay?",
        "11_sentence_embeddings": "When do two sentences mean the same?",
        "12_gpt": "What changes when it may only look left?",
        "13_modern_decoders": "What is inside LLaMA, Gemma, OLMo 2?",
        "14_t5_and_bart": "When do we want an encoder and a decoder?",
        "15_beyond_text": "What if the tokens are sound, or a picture?",
    },
    "Adapting a pretrained model": {
        "16_finetuning": "How little must we train?",
        "17_finetuning_pitfalls": "What can go wrong?",
        "18_parameter_efficient": "Can a few thousand numbers steer millions?",
        "19_distillation": "Why can a model fifty times smaller imitate?",
        "20_assistants": "How does a text predictor become an assistant?",
        "21_scale": "What does a large model cost, and what does it buy?",
        "22_prompting": "What if we never train at all?",
    },
    "A thesis, reproduced in miniature": {
        "23_recurrence": "Can a fixed window be opened?",
        "24_masked_seq2seq": "Can blank-fillers write?",
        "25_hidden_state_optimisation": "Can inference improve what it has already computed?",
        "26_conditional_beam_search": "What is the likeliest text that is not degenerate?",
    },
}


# Paths ------------------------------------------------------------------------------------------


def root():
    """The folder of the course."""
    return setup.ROOT


def data():
    """The folder of the course's small texts and models; read it, do not write there."""
    return root() / "data"


def standing(name):
    """Where a lesson stands: "here", "begun" (its notebook metadata say `course.draft`), or "coming"."""
    path = root() / "notebooks" / f"{name}.ipynb"
    if not path.exists():
        return "coming"
    about = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("course", {})
    return "begun" if about.get("draft") else "here"


@functools.cache
def state():
    """A folder to write in: COURSE_STATE, else the platform's cache folder, else a temporary one, and says so."""
    folder = setup.state_folder()
    if folder.parent == Path(tempfile.gettempdir()) and not os.environ.get("COURSE_STATE"):
        print(f"No cache folder can be written, so what the course writes goes to {folder}.", file=sys.stderr)
    return folder


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary path that takes the place of `path`, and its mode, only when the block ends well.

    A full disk or a folder that cannot be written is an OSError of one sentence, whatever the library that wrote says.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode if path.exists() else 0o644)
        os.replace(temporary, path)
    except Exception as error:
        if sentence := no_place(error, path.parent):
            raise OSError(getattr(error, "errno", None) or errno.ENOSPC, sentence) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep(path, seconds=3600):
    """Remove what writers of `path` that were killed left behind, an hour later."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > seconds:
                left.unlink()


def no_place(error, folder):
    """What a failed write in `folder` says about the disk, in one sentence; "" where the reason is another."""
    code = getattr(error, "errno", None)
    if "No space left on device" in str(error):  # what safetensors says, whose errors have no number
        code = errno.ENOSPC
    elsewhere = "set COURSE_STATE to a folder on another disk"
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
    if code in (errno.ENOSPC, errno.EDQUOT) or (code is None and free is not None and free < 2**20):
        if free and free >= 2**20 and code == errno.ENOSPC and no_more_files(folder):
            return f"No more files fit into {folder}: remove some there, or {elsewhere}."
        left = "" if free is None else f" ({free / 1e6:.0f} MB free)"
        return f"Not enough space in {folder}{left}: remove some files there, or {elsewhere}."
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{folder} cannot be written by you: allow it, or {elsewhere}."
    return ""


def no_more_files(folder):
    """Has the file system of this folder no place for another file, however small?"""
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such limit
        found = os.statvfs(folder)
        return found.f_files > 0 and found.f_favail == 0
    return False


# The beginning of a page -------------------------------------------------------------------------------------


def begin(seed=0):
    """Make this kernel the same for every reader: seed, threads, look, quiet. Calling it again starts anew.

    numpy, torch and matplotlib are prepared when the page imports them, so a page pays for what it uses.
    """
    check_python(sys.version_info[:2])
    check_place()
    print_anyhow()
    os.environ["OMP_NUM_THREADS"] = str(threads())
    environment = {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "3",  # seconds to wait for a hub that does not answer, not minutes
        "HF_HUB_DOWNLOAD_TIMEOUT": "10",
    }
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    if forced_offline():
        os.environ["HF_HUB_OFFLINE"] = "1"
    hush()
    random.seed(seed)
    when_imported("numpy", lambda: sys.modules["numpy"].random.seed(seed))
    when_imported("torch", lambda: prepare_torch(seed))
    when_imported("matplotlib.pyplot", prepare_figures)
    when_imported("utils.show", prepare_figures)
    if host() in ("Colab", "Kaggle"):
        prepare_host()
    if host() != "no front end":
        check_memory()


def check_python(version):
    """Refuse a Python (major, minor) that is too old for the pages, and name one that nobody has tried."""
    low, high = setup.python_range()
    supported = f"Python {low[0]}.{low[1]} to {high[0]}.{high[1] - 1}"
    if version < low:
        raise ImportError(
            f"These pages need {supported}, and this kernel runs {version[0]}.{version[1]}: "
            "`make lab` finds one on PATH, or choose another kernel."
        )
    if version >= high:
        print(
            f"These pages were tested with {supported}; this kernel runs {version[0]}.{version[1]}.",
            file=sys.stderr,
        )


def check_place():
    """Put the course's folder first on the path, and make sure that this package is the `utils` everybody gets."""
    place = str(root())
    sys.path[:] = [place] + [p for p in sys.path if p != place]
    found = Path(sys.modules["utils"].__file__).resolve()
    if root() not in found.parents:
        raise ImportError(
            f"Another package named utils, {found}, hides the course's: rename it, then restart the kernel."
        )


def print_anyhow():
    """Let a terminal that cannot print a letter, such as ✓ in the C locale, print something else in its place."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def threads():
    """OMP_NUM_THREADS where it is set, else two, or one on a machine with one core."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else min(2, cores())


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor():
    """The processor's name, and those of its instruction sets that matter to a model."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), []
    name = re.search(r"model name\s*:\s*(.*)", text)
    flags = set((re.search(r"(?:flags|Features)\s*:\s*(.*)", text) or ["", ""])[1].split())
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
    return name[1] if name else platform.machine(), [flag for flag in known if flag in flags]


def hush():
    """Silence warnings that are known, harmless and tell a student nothing."""
    for message, category in (
        ("IProgress not found", Warning),  # tqdm without a widget front end
        ("enable_nested_tensor is True", UserWarning),  # torch's own encoder layers
        ("Failed to initialize NumPy", UserWarning),
        ("CUDA initialization", UserWarning),  # a driver older than this torch: pages run on the CPU
        ("Can't initialize NVML", UserWarning),
        ("The pynvml package is deprecated", FutureWarning),
        ("`is_gradient_checkpointing` is deprecated", FutureWarning),  # peft asks by the old name
    ):
        warnings.filterwarnings("ignore", message=message, category=category)


class Afterwards(importlib.abc.MetaPathFinder):
    """Runs a function once, right after a module was imported for the first time."""

    def __init__(self, name, then):
        self.name, self.then = name, then

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_then(module):
            load(module)
            self.then()

        spec.loader.exec_module = load_then
        return spec


def when_imported(name, then):
    """Call `then` now if the module is there, else as soon as it is imported; a second call replaces the first."""
    sys.meta_path[:] = [f for f in sys.meta_path if not (isinstance(f, Afterwards) and f.name == name)]
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, Afterwards(name, then))


def prepare_torch(seed):
    """Seed, threads, and no surprise from a graphics card."""
    torch = sys.modules["torch"]
    torch.manual_seed(seed)
    torch.set_num_threads(threads())


def prepare_figures():
    """The course's look, and PNG bytes that do not name the version that drew them."""
    show = importlib.import_module("utils.show")
    if not hasattr(show, "style"):  # this is pyplot being imported by utils.show, whose turn comes
        return
    show.style()
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        from matplotlib_inline.config import InlineBackend

        InlineBackend.instance(parent=shell).print_figure_kwargs = {
            "bbox_inches": "tight",
            "metadata": {"Software": None},
        }


def host():
    """Who runs this kernel: Colab, Kaggle, Binder, VS Code, Jupyter, or no front end at all (pages being stored)."""
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):  # asked first: Kaggle's image brings Colab's package
        return "Kaggle"
    with contextlib.suppress(ImportError, ValueError):  # no package google, or one without this part
        if importlib.util.find_spec("google.colab"):
            return "Colab"
    signs = {
        "BINDER_SERVICE_HOST": "Binder",
        "BINDER_LAUNCH_HOST": "Binder",
        "VSCODE_PID": "VS Code",
        "JPY_SESSION_NAME": "Jupyter",
    }
    return next((name for sign, name in signs.items() if os.environ.get(sign)), "no front end")


FIXED = "torch", "numpy", "jupyterlab"  # what a host brings of these is never touched, nor added


def prepare_host():
    """On Colab and Kaggle: let our own widgets show, and add what is missing; what is there is never replaced."""
    if host() == "Colab":
        from google.colab import output

        output.enable_custom_widget_manager()
    versions = {line: version_of(line) for line in setup.requirements() if name_of(line) != "jupyterlab"}
    missing = [line for line, version in versions.items() if not version and name_of(line) not in FIXED]
    if missing and not add(missing, {name_of(line): v for line, v in versions.items() if v}):
        say_how("These packages are missing here and pip could not add them", missing)
    if unfit := {line: v for line, v in versions.items() if v and not fits(line, v)}:
        found = ", ".join(f"{name_of(line)} {version}" for line, version in unfit.items())
        say_how(
            f"The pages were tested with other versions than {found}",
            [line for line in unfit if name_of(line) not in FIXED],
        )


def add(lines, kept):
    """Install what these requirement lines ask for beside `kept`, {name: version}, which stays; did it go well?"""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in kept.items()))
    try:
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "-c", file.name, *lines]
        return subprocess.run(words, check=False).returncode == 0
    finally:
        os.unlink(file.name)


def say_how(what, lines):
    """Say what is wrong with packages, and the line of a cell that mends it, if one does."""
    words = " ".join(f'"{line}"' for line in lines)
    how = f"run `%pip install {words}`, then restart the kernel" if lines else "they stay as they are"
    print(f"{what}: {how}.", file=sys.stderr)


# Memory ------------------------------------------------------------------------------------------


GROUPS = Path("/sys/fs/cgroup")  # where Linux says what a container may use


def page():
    """The name of the page that this kernel runs, such as "07_decoding"; "" where the front end does not tell."""
    path = os.environ.get("JPY_SESSION_NAME", "")
    if not path and "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        path = shell.user_ns.get("__vsc_ipynb_file__", "")  # VS Code
    return Path(path).stem if path.endswith(".ipynb") else ""


def measured():
    """What each page took, {path: {"seconds": …, "peak": bytes}}; written by `python -m utils.pages run --measure`."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((data() / "pages.json").read_text(encoding="utf-8"))["pages"]
    return {}


def check_memory():
    """Say, before a page starts, that it needs more memory than is free."""
    need = max((it["peak"] for path, it in measured().items() if Path(path).stem == page()), default=0)
    total, free = memory()
    gb = lambda n_bytes: f"{n_bytes / 1e9:.1f} GB"
    if total and need > total:
        print(
            f"This page needs {gb(need)} of memory and this computer has {gb(total)}: "
            "the kernel may stop on the way; open the page where there is more.",
            file=sys.stderr,
        )
    elif free and need > free:
        print(
            f"This page needs {gb(need)} of memory and {gb(free)} are free: shut down other kernels or "
            "close programs before you go on.",
            file=sys.stderr,
        )


def memory():
    """Bytes of memory: (in all, free), with the limit of a container where there is one; None for what nobody tells."""
    total, free = machine_memory()
    limit, used = container_memory()
    if limit and (not total or limit < total):
        total = limit
    if limit and used is not None:
        free = max(0, limit - used) if free is None else min(free, max(0, limit - used))
    return total, free


def machine_memory():
    """Bytes of the machine's memory: (in all, free); None for what the system does not tell."""
    with contextlib.suppress(OSError, KeyError):  # Linux
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        found = dict(re.findall(r"(\w+):\s+(\d+) kB", text))
        return int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024
    with contextlib.suppress(AttributeError, OSError, ValueError):  # macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    with contextlib.suppress(
        AttributeError, OSError
    ):  # Windows: a structure of two 4-byte and seven 8-byte numbers
        import ctypes

        status = (ctypes.c_ulonglong * 8)(64)
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(status):
            return status[1], status[2]
    return None, None


def container_memory():
    """What a container may use and uses, in bytes: (limit, used); None where there is no limit or nobody tells.

    Control groups of version 2 and 1 are asked, and MEM_LIMIT, in which Binder writes the limit.
    """
    number = lambda text: int(text) if text.strip().isdigit() else None
    limit = number(os.environ.get("MEM_LIMIT", ""))
    used = None
    for most, now, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        with contextlib.suppress(OSError):
            found = number((GROUPS / most).read_text(encoding="ascii"))
            used = number((GROUPS / now).read_text(encoding="ascii"))
            kept = re.search(rf"^{cache} (\d+)", (GROUPS / stat).read_text(encoding="ascii"), re.MULTILINE)
            used -= int(kept[1]) if kept else 0  # what the system only keeps in case it is read again
            limit = min(filter(None, (limit, found)), default=None)
            break
    return limit, used


# The network ------------------------------------------------------------------------------------------


def forced_offline():
    """Does the environment say that there is no network?"""
    no = os.environ.get("COURSE_ONLINE", "").lower() in ("0", "no", "false")
    return no or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "yes", "on", "true")


@functools.cache
def hub_answers(address):
    """Does the hub answer within two seconds? Asked once for a kernel."""
    return setup.answers(address, seconds=2.0)


def online():
    """Can the hub be reached? Sections tagged `hub` begin with this; COURSE_ONLINE=0 says no without asking."""
    return not forced_offline() and hub_answers(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


# The doctor ------------------------------------------------------------------------------------------

Row = namedtuple("Row", "what found ok advice")  # ok: True, False, or None for "good to know"
SIGNS = {True: "✓", False: "✗", None: "○"}


def doctor():
    """The state of this machine as a table: what was found, and what to do where it is wrong."""
    return Report(checks(facts()))


class Report:
    """Rows of the doctor: a table on a page, plain text elsewhere."""

    def __init__(self, rows):
        self.rows = rows
        self.ok = all(row.ok is not False for row in rows)

    def _repr_html_(self):
        cells = "".join(
            f"<tr><td>{SIGNS[row.ok]}</td><th style='text-align:left'>{html.escape(row.what)}</th>"
            f"<td style='text-align:left'>{html.escape(row.found)}</td>"
            f"<td style='text-align:left'>{html.escape('' if row.ok else row.advice)}</td></tr>"
            for row in self.rows
        )
        return f"<table><tr><th></th><th></th><th>found</th><th>what to do</th></tr>{cells}</table>"

    def __repr__(self):
        lines = []
        for row in self.rows:
            lines.append(f"{SIGNS[row.ok]} {row.what:<13} {row.found}")
            lines += (
                []
                if row.ok
                else textwrap.wrap(row.advice, 90, initial_indent=" " * 16, subsequent_indent=" " * 16)
            )
        return "\n".join(lines)


def name_of(requirement):
    """The name of the package that a requirement line asks for."""
    return re.match(r"[\w.-]+", requirement)[0]


def fits(requirement, version):
    """Is this version of a package one that the requirement line asks for?"""
    from packaging.requirements import Requirement

    return Requirement(requirement).specifier.contains(version, prereleases=True)


def version_of(requirement):
    """The installed version of the package that a requirement line names; None if there is none."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name_of(requirement))
    return None


def hub_cache():
    """The hub's cache: (folder, number of models in it, can it be written?)."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser().absolute()
    there = next(path for path in [folder, *folder.parents] if path.exists())
    return folder, len(list(folder.glob("models--*"))), os.access(there, os.W_OK)


def facts():
    """What the doctor looks at, gathered from this machine."""
    import torch

    total, free = memory()
    return {
        "python": sys.version_info[:2],
        "versions": {line: version_of(line) for line in setup.requirements()},
        "torch": torch.__version__,
        "sum": float(torch.ones(3, 3).matmul(torch.ones(3, 3)).sum()),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 1,
        "memory": total,
        "free_memory": free,
        "state": state(),
        "free_disk": shutil.disk_usage(state()).free,
        "online": online(),
        "hub": hub_cache(),
        "host": host(),
        "clock": (time.time(), max(Path(file).stat().st_mtime for file in (__file__, torch.__file__))),
        "edited": edited(),
    }


def edited():
    """Files of the course's code and data that are not as they were published; [] too where git cannot tell."""
    words = [
        "git",
        "-C",
        str(root()),
        "-c",
        "core.quotepath=off",
        "diff",
        "--name-only",
        "HEAD",
        "--",
        "utils",
        "data",
    ]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", timeout=5)
        return done.stdout.splitlines() if done.returncode == 0 else []
    return []


def checks(facts):
    """The doctor's rows for these facts: (what, found, is it well?, what to do if not)."""
    low, high = setup.python_range()
    python = ".".join(map(str, facts["python"]))
    supported = f"{low[0]}.{low[1]} to {high[0]}.{high[1] - 1}"
    gb = lambda n_bytes: "an unknown number of" if n_bytes is None else f"{n_bytes / 1e9:.1f}"
    free = facts["memory"] if facts["free_memory"] is None else facts["free_memory"]
    rented = facts["host"] in ("Colab", "Kaggle")
    versions = {
        line: version
        for line, version in facts["versions"].items()
        if not (rented and name_of(line) == "jupyterlab")  # these have a front end of their own
    }
    unfit = [line for line, version in versions.items() if version is None or not fits(line, version)]
    wrong = [
        f"{name_of(line)} {versions[line] or 'missing'} (needs {line.removeprefix(name_of(line))})"
        for line in unfit
    ]
    found = {name_of(line): version or "missing" for line, version in facts["versions"].items()}
    now, newest = (time.strftime("%Y-%m-%d", time.gmtime(seconds)) for seconds in facts["clock"])
    widgets = [f"{name} {found[name]}" for name in ("ipywidgets", "anywidget")]
    folder, models, can_write = facts["hub"]
    return [
        Row(
            "Python",
            python,
            low <= facts["python"] < high,
            f"Use Python {supported}: `make lab` finds one on PATH.",
        ),
        Row(
            "packages",
            ", ".join(wrong) or f"all {len(versions)} in range",
            not wrong,
            "Run `%pip install " + " ".join(f'"{line}"' for line in unfit) + "`, then restart the kernel."
            if rented
            else "Close this page and start with `make lab`, which installs the versions that were tested.",
        ),
        Row(
            "torch",
            f"{facts['torch']}, computes"
            if facts["sum"] == 27
            else f"{facts['torch']}, 27 comes out as {facts['sum']}",
            facts["sum"] == 27,
            "This build of torch does not compute on this processor: set up again with `rm -r .venv; make lab`.",
        ),
        Row(
            "threads",
            f"{facts['threads']} of {facts['cores']} cores",
            1 <= facts["threads"] <= facts["cores"],
            "More threads than cores wait for one another: unset OMP_NUM_THREADS and restart the kernel.",
        ),
        Row(
            "memory",
            f"{gb(free)} GB free of {gb(facts['memory'])} GB",
            None if free is None else free >= 2**30,
            "Pages need 1 GB: shut down other kernels (Lab: the round button at the left) or close programs.",
        ),
        Row(
            "disk",
            f"{gb(facts['free_disk'])} GB free in {facts['state']}",
            facts["free_disk"] >= 5e8,
            "Free half a gigabyte, or set COURSE_STATE to a folder on another disk before starting.",
        ),
        Row(
            "network",
            "the hub answers" if facts["online"] else "the hub does not answer",
            True if facts["online"] else None,
            "Pages work offline; only sections that begin with `if course.online():` stay empty.",
        ),
        Row(
            "hub cache",
            f"{models} models in {folder}",
            can_write,
            f"{folder} cannot be written, so published models cannot be kept: set HF_HOME to a folder of your own.",
        ),
        Row(
            "widgets",
            ", ".join([facts["host"], *widgets]),
            "missing" not in " ".join(widgets),
            "Start with `make lab` and reload the browser's page; until then read the figure beside each widget.",
        ),
        Row(
            "clock",
            now,
            facts["clock"][0] > facts["clock"][1] - 2 * 86400,
            f"The course was put here on {newest}, after today: set the clock, or secure connections fail.",
        ),
        Row(
            "files",
            "as published" if not facts["edited"] else f"edited: {', '.join(facts['edited'][:5])}",
            None if facts["edited"] else True,
            "After an edit restart the kernel; `git checkout -- utils data` brings the published files back.",
        ),
    ]
