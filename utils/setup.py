"""Set up what the course needs, once, then run a verb of the Makefile in it. Plain Python, standard library only.

python3 utils/setup.py lab | test | test-browser | settings | run | made | format | bench | grade | book | in COMMAND …
python3 utils/setup.py ranges [lowest | newest] [EXTRA …]    print what pip is to install, where no verb does it

COURSE_STATE    a folder for everything that is installed or written (default: `.venv` here, or a cache folder)
COURSE_PYTHON   at the first set-up, the Python to use (default: the first on PATH that fits)
COURSE_GPU=1    at the first set-up, take PyTorch's CUDA build, several GB, in place of the CPU build
COURSE_CHROMIUM the Chromium or Chrome of `test-browser` (default: the first that is found)
HW=hw07 SUBMISSIONS=folder OUT=folder    what `grade` grades, and where the grades go
THREADS=2       threads of each process that tests or runs pages (default 1: two processes run side by side)
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "language-models-built-and-measured"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
NEEDED_GB = 3  # the environment takes 2.0, unpacking the rest
PAGES = "notebooks", "solutions"
BROWSER = "tests/browser"  # takes minutes, and a Chromium: a verb of its own
FIRST_PAGE = "notebooks/00_start_here.ipynb"


NO_CHROMIUM = (
    "The tests in a browser need Chromium or Chrome and found none: install one (sudo apt install chromium; on a Mac "
    "brew install --cask google-chrome) or name one in COURSE_CHROMIUM, then run the same command again."
)


class Stop(Exception):
    """One plain sentence: what is wrong, and what to do."""


def say(text):
    """Tell the person at the terminal; never fail on a terminal that cannot print a letter."""
    encoding = sys.stderr.encoding or "ascii"
    print(text.encode(encoding, "replace").decode(encoding), file=sys.stderr, flush=True)


# Versions: read from pyproject.toml, the one place -----------------------------------------------------------


def python_range(pyproject=None):
    """The lowest supported Python and the first one that is too new, as tuples: (3, 11), (3, 14)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8") if pyproject is None else pyproject
    low, high = re.search(r'requires-python = ">=(\d+\.\d+),<(\d+\.\d+)"', text).groups()
    return tuple(map(int, low.split("."))), tuple(map(int, high.split(".")))


def requirements(*extras):
    """The requirement lines of pyproject.toml: the core's, then those of the named extras."""
    import tomllib  # since Python 3.11; by now that is what runs

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sum((project["optional-dependencies"][extra] for extra in extras), list(project["dependencies"]))


def lowest(requirement):
    """The requirement line that asks for the lowest series of its range: "torch>=2.11,<2.14" → "torch==2.11.*"."""
    name, low = re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups()
    return f"{name}=={low}.*"


def ranges(words):
    """The lines of `ranges`: those of the core and of the extras named, as they are or at the lowest end."""
    at, extras = (words[0], words[1:]) if words[:1] in (["lowest"], ["newest"]) else ("newest", words)
    try:
        lines = requirements(*extras)
    except KeyError as error:
        raise Stop(f"There is no extra {error} in pyproject.toml.") from None
    return [lowest(line) for line in lines] if at == "lowest" else lines


def pins():
    """Package → version, as constraints.txt pins them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


# Where things go ------------------------------------------------------------------------------------------


def writable(folder):
    """Can a file be made there? Tried, not guessed: permission bits say little to root and to mounts."""
    try:
        os.makedirs(str(folder), exist_ok=True)
        with tempfile.TemporaryFile(dir=str(folder)):
            return True
    except OSError:
        return False


def cache_home():
    """The platform's folder for caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def state_folder():
    """Where the course may write: COURSE_STATE, else the platform's cache folder, else a temporary one."""
    if os.environ.get("COURSE_STATE"):
        folder = Path(os.environ["COURSE_STATE"]).expanduser().absolute()
        if not writable(folder):
            raise Stop(f"COURSE_STATE names {folder}, which cannot be written: name another folder.")
        return folder
    with contextlib.suppress(RuntimeError, OSError):  # no home at all
        if writable(cache_home() / NAME):
            return cache_home() / NAME
    owner = os.getuid() if hasattr(os, "getuid") else "course"
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{owner}"
    if not writable(folder):
        raise Stop(f"No folder can be written, not even {folder}: set COURSE_STATE to one that can.")
    return folder


def venv_folder():
    """`.venv` of the checkout; where the checkout is read-only, a folder of its own in the state folder."""
    if os.environ.get("COURSE_STATE"):
        return state_folder() / ".venv"
    if is_ready(ROOT / ".venv") or writable(ROOT):
        return ROOT / ".venv"
    return state_folder() / ("venv-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8])


# The environment: made once, stamped when complete -----------------------------------------------------------


def fingerprint(venv):
    """What a complete environment was made from: the pins and its Python."""
    made_from = (ROOT / "constraints.txt").read_bytes() + (venv / "pyvenv.cfg").read_bytes()
    return hashlib.sha256(made_from).hexdigest()


def is_ready(venv):
    """Complete, unharmed and made from the present pins?"""
    try:
        stamp = (venv / "course.stamp").read_text(encoding="utf-8")
        return python_of(venv).exists() and stamp == fingerprint(venv)
    except OSError:
        return False


def python_of(venv):
    """The interpreter of an environment."""
    return venv / "bin" / "python"


def probe(python):
    """(version, can it make environments?) of an interpreter; None when it does not run, as a shim may not."""
    code = "import sys; print(*sys.version_info[:2]); import ensurepip, venv; print('whole')"
    try:
        done = subprocess.run(
            [str(python), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30
        )
        words = done.stdout.decode("utf-8", "replace").split()
        return (int(words[0]), int(words[1])), words[-1] == "whole"
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return None


def candidates():
    """Every interpreter on PATH that may do, the supported versions first."""
    if os.environ.get("COURSE_PYTHON"):
        return [os.environ["COURSE_PYTHON"]]
    low, high = python_range()
    names = [f"python{low[0]}.{minor}" for minor in range(low[1], high[1])] + ["python3", "python"]
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [shutil.which(name, path=folder) for name in names for folder in folders if folder]
    return list(dict.fromkeys(path for path in paths if path))


def find_python():
    """The first interpreter that runs, is supported and can make environments."""
    low, high = python_range()
    seen = {python: probe(python) for python in candidates()}
    fits = {python: found[1] for python, found in seen.items() if found and low <= found[0] < high}
    for python, whole in fits.items():
        if whole:
            return python
    supported = f"Python {low[0]}.{low[1]} to {high[0]}.{high[1] - 1}"
    if fits:
        python = next(iter(fits))
        package = "python{}.{}-venv".format(*seen[python][0])
        raise Stop(
            f"{python} cannot make environments: install its venv module (sudo apt install {package})."
        )
    found = ", ".join(sorted({"{}.{}".format(*it[0]) for it in seen.values() if it})) or "none"
    fix = "install one (sudo apt install python3.11 python3.11-venv) or set COURSE_PYTHON to it"
    raise Stop(f"The course needs {supported} and found {found} on PATH: {fix}.")


def check_space(folder):
    """Stop before the disk is full, not after."""
    there = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(str(there)).free / 1e9
    if free < NEEDED_GB:
        raise Stop(no_space(folder, free))


def no_space(folder, free):
    """The sentence for a full disk."""
    return (
        f"Not enough space in {folder}: the set-up needs {NEEDED_GB} GB, {free:.1f} GB are free. "
        "Free some, or set COURSE_STATE to a folder on another disk."
    )


def diagnose(log, folder):
    """pip's complaint in one sentence that names the fix."""
    lost = "NewConnectionError|NameResolution|name resolution|unreachable|ProxyError|ConnectTimeout|timed out|SSLError"
    if re.search("No space left on device|Disk quota exceeded|Errno 28|Errno 122", log):
        there = next(path for path in [folder, *folder.parents] if path.exists())
        return no_space(folder, shutil.disk_usage(str(there)).free / 1e9)
    missing = re.search(r"requirement ([\w.-]+).*\(from versions: (.*)\)", log)
    if re.search(lost, log) or (missing and missing[1] != "torch" and missing[2].strip() == "none"):
        return (
            "The first set-up needs the network, and the package index did not answer: connect (or set PIP_INDEX_URL "
            "to a mirror you can reach) and run the same command again; after that the course works offline."
        )
    if missing:
        return f"There is no build of {missing[1]} for the Python in {folder}: set COURSE_PYTHON to another version."
    errors = (
        [line for line in log.splitlines() if line.startswith("ERROR")]
        or log.splitlines()[-1:]
        or ["no reason"]
    )
    return (
        f"pip could not install the packages ({errors[-1][:300]}): mend that and run the same command again."
    )


def answers(url, seconds=3.0):
    """Does this address answer within some seconds? A name server may stall too, hence the thread."""
    found = []

    def ask():
        try:
            request = urllib.request.Request(url, method="HEAD")
            found.append(urllib.request.urlopen(request, timeout=seconds).status < 400)
        except (
            urllib.error.HTTPError
        ) as error:  # something answers: a plain server without this page, or a barrier
            found.append(error.code in (404, 405, 501))
        except (OSError, ValueError):
            found.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found and found[0])


def torch_options(python):
    """pip's options that bring the CPU build of torch; stop rather than fetch gigabytes that nobody asked for."""
    if os.environ.get("COURSE_GPU") == "1" or not sys.platform.startswith("linux"):
        return []
    if answers(CPU_WHEELS + "/torch/"):
        return ["--extra-index-url", CPU_WHEELS]
    code, log = pip(
        python, ["install", "--dry-run", "--no-deps", "--no-cache-dir", "torch==" + pins()["torch"]]
    )
    if code == 0 and not re.search(r"torch-[\d.]+\+cpu|already satisfied", log):
        raise Stop(
            f"Only the CUDA build of torch (several GB) is in reach: run again when {CPU_WHEELS} answers, "
            "or take it with COURSE_GPU=1."
        )
    return []  # found on this machine's own index, or pip itself will say what is wrong


def pip(python, words, watch=None):
    """Run pip; returns its exit status and what it said. `watch(line)` sees each line as it comes."""
    command = [
        str(python),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "--retries",
        "1",
        *words,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=str(ROOT))
    lines = []
    for raw in process.stdout:
        lines.append(raw.decode("utf-8", "replace").rstrip())
        if watch:
            watch(lines[-1])
    return process.wait(), "\n".join(lines)


def progress():
    """A watcher of pip that counts packages in one line, where lines can be rewritten."""
    seen, total = set(), len(pins())

    def watch(line):
        name = re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line)
        if name and name[1] not in seen:
            seen.add(name[1])
            if sys.stderr.isatty():
                sys.stderr.write(f"\r  {len(seen):3d} of about {total}  {name[1]:<40.40}")
        if line.startswith("Installing collected"):
            say(("\r" if sys.stderr.isatty() else "") + f"  unpacking {len(line.split(','))} packages")

    return watch


def empty(folder):
    """Remove what is in a folder, except the lock that is held and the mark that says it is unfinished."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path.name not in ("course.lock", "course.unfinished"):
            path.unlink()


@contextlib.contextmanager
def lock(folder):
    """One set-up at a time; a second one waits and then finds the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "course.lock", "w", encoding="utf-8") as file:
        with contextlib.suppress(ImportError, OSError):  # no locks on this system or this disk
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fits(venv):
    """Is there an environment whose Python runs, is supported, and whose set-up was not cut off?"""
    found = probe(python_of(venv)) if python_of(venv).exists() else None
    low, high = python_range()
    return bool(found and low <= found[0] < high) and not (venv / "course.unfinished").exists()


def make_venv(python, venv):
    """An empty environment."""
    words = [str(python), "-m", "venv", str(venv)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Stop(diagnose(done.stdout.decode("utf-8", "replace"), venv))


def set_up(venv):
    """Make the environment complete. A set-up that was cut off is thrown away and redone."""
    with lock(venv):
        if is_ready(venv):
            return
        unfinished = venv / "course.unfinished"
        if fits(venv):
            unfinished.touch()
            say(f"Bringing {venv} up to date")
        else:
            python = find_python()
            if unfinished.exists():
                say("The last set-up was cut off; starting it again.")
            unfinished.touch()
            empty(venv)
            check_space(venv)
            say(f"Setting up {venv} with {python} (once; 2.0 GB, some minutes)")
            make_venv(python, venv)
        options = ["--progress-bar", "off", "-c", "constraints.txt", *torch_options(python_of(venv))]
        code, log = pip(python_of(venv), ["install", *options, *requirements("dev", "grading")], progress())
        if code:
            raise Stop(diagnose(log, venv))
        quiet_lab(venv)
        (venv / "course.stamp").write_text(fingerprint(venv), encoding="utf-8")
        unfinished.unlink()
        say("Ready: from here on no network is needed.")


def add(python, extra, module):
    """Bring the packages of one more extra, if its `module` is not there yet."""
    if subprocess.run(
        [str(python), "-c", f"import {module}"], stderr=subprocess.DEVNULL, check=False
    ).returncode:
        say(f"Adding what `{extra}` needs (once)")
        code, log = pip(python, ["install", "-q", "-c", "constraints.txt", *requirements(extra)])
        if code:
            raise Stop(diagnose(log, python.parent))


def quiet_lab(venv):
    """Tell JupyterLab not to look for news, for which it would need the network, and to leave out nbgrader's panels.

    Pages are graded by commands; the panels would only stand in a student's way.
    """
    parts = "formgrader", "validate_assignment", "assignment_list", "course_list"
    off = {f"nbgrader.server_extensions.{part}": False for part in parts}
    files = {
        "share/jupyter/lab/settings/overrides.json": {
            "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
        },
        "etc/jupyter/labconfig/page_config.json": {"disabledExtensions": {"@jupyter/nbgrader": True}},
        "etc/jupyter/jupyter_server_config.d/of-the-course.json": {"ServerApp": {"jpserver_extensions": off}},
    }
    for name, content in files.items():
        (venv / name).parent.mkdir(parents=True, exist_ok=True)
        (venv / name).write_text(json.dumps(content) + "\n", encoding="utf-8")


def ready():
    """The interpreter of a complete environment, made if it must be."""
    venv = venv_folder()
    if not is_ready(venv):
        if venv != ROOT / ".venv" and not os.environ.get("COURSE_STATE"):
            say(f"This checkout is read-only: what is installed and written goes to {state_folder()}")
        try:
            set_up(venv)
        except OSError as error:
            raise Stop(diagnose(str(error), venv)) from error
    return python_of(venv)


# The verbs ------------------------------------------------------------------------------------------


def variables(python, verb, threads=None):
    """The environment variables of a verb. What is tested does not see the user's own Jupyter and IPython settings."""
    state = state_folder()
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONHOME", "PYTHONPATH", "ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    kept.update(
        PATH=os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        VIRTUAL_ENV=str(python.parent.parent),
        PYTHONNOUSERSITE="1",
        PYTHONUTF8="1",
        RUFF_CACHE_DIR=str(state / "ruff"),
        JUPYTER_PLATFORM_DIRS="1",
    )
    own = {
        "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "jupyter/config",
        "JUPYTER_DATA_DIR": "jupyter/data",
        "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
        "MPLCONFIGDIR": "matplotlib",
    }
    has_home = "HOME" in os.environ and writable(os.environ["HOME"])
    if verb != "lab" or not has_home:
        kept.update({name: str(state / folder) for name, folder in own.items()})
    if not has_home:
        kept.update(HF_HOME=str(state / "hub"))
    if verb in (
        "test",
        "test-browser",
        "settings",
        "run",
    ):  # stored outputs are those of two processes, one thread each, no network
        threads = str(threads or os.environ.get("THREADS") or 1)
        kept.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, COURSE_ONLINE="0")
    return kept


def finished(root=ROOT):
    """The pages that are done: their lesson is not marked `course.draft`. Of a draft only the code is tested."""
    drafts = set()
    for path in root.glob("notebooks/[0-9]*.ipynb"):
        if json.loads(path.read_text(encoding="utf-8"))["metadata"].get("course", {}).get("draft"):
            drafts.add(path.stem)
    pages = sorted(path for folder in PAGES for path in root.glob(f"{folder}/*.ipynb"))
    return [path.relative_to(root).as_posix() for path in pages if path.stem.removeprefix("hw") not in drafts]


def chromium():
    """The path of a Chromium or a Chrome: COURSE_CHROMIUM, else the first that is found; None where there is none."""
    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    names += ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]
    return next(
        filter(None, map(shutil.which, filter(None, [os.environ.get("COURSE_CHROMIUM"), *names]))), None
    )


def pytest_words(*what):
    """pytest over tests and pages: pages strictly, each page in one process, two processes."""
    pages = "--nbval --nbval-current-env --nbval-cell-timeout=120 --nbval-sanitize-with tests/sanitize.cfg"
    side_by_side = "-n 2 --dist loadfile -p utils.peak"
    cache = ["-o", f"cache_dir={state_folder() / 'pytest'}"]
    return ["-m", "pytest", *pages.split(), *side_by_side.split(), *cache, *what]


def steps(verb, words):
    """What a verb runs, in order, as arguments of Python; pytest comes last, so its count is the last line."""
    if verb == "test":
        return [
            ["-m", "ruff", "check", "."],
            ["-m", "ruff", "format", "--check", "."],
            ["-m", "utils.pages", "compare"],
            pytest_words(*(words or [f"--ignore={BROWSER}", "tests", *finished()])),
        ]
    if verb == "test-browser":  # one at a time: one JupyterLab and one Chromium serve them all
        return [["-m", "pytest", "-o", f"cache_dir={state_folder() / 'pytest'}", *(words or [BROWSER])]]
    if verb == "format":
        return [["-m", "ruff", "check", "--fix-only", "--quiet", "."], ["-m", "ruff", "format", "."]]
    if verb == "run":
        return [["-m", "utils.pages", "run", *words]]
    if verb == "made":
        return [["-m", "utils.pages", "made"], ["-m", "utils.house", "picture"]]
    if verb == "bench":
        return [["-m", "utils.bench", *words]]
    if verb == "book":
        return [["-m", "utils.book", *words]]
    if verb == "grade":
        homework, folder, out = map(asked_for, ("HW", "SUBMISSIONS", "OUT"))
        return [["-m", "utils.grading", "grade", homework, folder, "--out", out, *words]]
    raise Stop(f"There is no verb {verb!r}: make help lists them.")


def asked_for(name):
    """A variable that `make grade` needs."""
    if not os.environ.get(name):
        raise Stop(f"make grade needs {name}: make grade HW=hw07 SUBMISSIONS=folder OUT=folder")
    return os.environ[name]


def run_steps(commands, python, env):
    """Run all, also after a failure, so that one run tells everything; returns the first bad exit status."""
    codes = []
    for words in commands:
        if len(commands) > 1:
            say("· " + " ".join(words[1:3]))
        codes.append(subprocess.run([str(python), *words], cwd=str(ROOT), env=env, check=False).returncode)
    return next(filter(None, codes), 0)


def settings(python, words):
    """The pages under four settings that change the last digits: all must print what is stored."""
    verdicts = {}
    for name, threads, extra in (
        ("1 thread", 1, {}),
        ("2 threads", 2, {}),
        ("ATEN_CPU_CAPABILITY=avx2", 1, {"ATEN_CPU_CAPABILITY": "avx2"}),
        ("ATEN_CPU_CAPABILITY=default", 1, {"ATEN_CPU_CAPABILITY": "default"}),
    ):
        say(f"· pages, {name}")
        env = dict(variables(python, "settings", threads), **extra)
        verdicts[name] = run_steps([pytest_words(*(words or finished()))], python, env)
    for name, code in verdicts.items():
        say(f"  {'green' if code == 0 else 'RED  '}  {name}")
    return max(verdicts.values())


def free_port(first=8888):
    """The first port of the usual ones that is free."""
    for port in range(first, first + 50):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
    raise Stop(f"No port from {first} to {first + 49} is free: close a JupyterLab that you no longer need.")


def lab(python, words):
    """JupyterLab on the first page; without a display, print the address and serve."""
    display = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    page = [FIRST_PAGE] if (ROOT / FIRST_PAGE).exists() else []
    port, token = free_port(), secrets.token_hex(16)
    address = "/".join([f"http://127.0.0.1:{port}/lab", *(["tree"] + page if page else [])])
    say(f"JupyterLab: {address}?token={token}   (stop it with Ctrl-C)")
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--log-level=WARN", "--ip=127.0.0.1"]
    options += [] if display else ["--no-browser"]
    options += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    env = dict(
        variables(python, "lab"), JUPYTER_TOKEN=token
    )  # not on the command line, which others may read
    os.chdir(str(ROOT))
    os.execve(str(python), [str(python), "-m", "jupyterlab", *page, *options, *words], env)


def main(words):
    """Run one verb; the exit status is that of what it ran."""
    verb, words = words[0] if words else "help", words[1:]
    try:
        if verb == "help":
            print(__doc__)
            return 0
        if verb == "ranges":
            print("\n".join(ranges(words)))
            return 0
        low, high = python_range()
        if not low <= sys.version_info[:2] < high and not is_ready(venv_folder()):
            python = find_python()
            os.execv(python, [python, str(Path(__file__).resolve()), verb, *words])
        if verb == "test-browser" and not chromium():
            raise Stop(NO_CHROMIUM)
        python = ready()
        if verb == "test-browser":
            add(python, "browser", "playwright")
        if verb == "lab":
            return lab(python, words)
        if verb == "settings":
            return settings(python, words)
        if verb == "book":
            add(python, "book", "sphinx_book_theme, myst_nb")
        if verb == "in":
            return subprocess.run(words, cwd=str(ROOT), env=variables(python, "run"), check=False).returncode
        return run_steps(steps(verb, words), python, variables(python, verb))
    except Stop as stop:
        say(str(stop))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
