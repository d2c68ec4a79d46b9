"""The set-up of a page: the same for every reader, quick, quiet, and honest about what is wrong with a machine."""

import base64
import http.server
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from utils import course, setup

PAGES = sorted([*course.root().glob("notebooks/*.ipynb"), *course.root().glob("solutions/*.ipynb")])


def fresh(code, folder=None, **environment):
    """What a new interpreter prints for this code, with the course on its path."""
    env = {
        k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "COURSE_ONLINE", "HF_HUB_OFFLINE")
    }
    env = env | {"PYTHONPATH": str(course.root())} | environment
    words = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", env=env, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# The beginning of a page


def test_begin_seeds_everything_whether_imported_before_or_after():
    numbers = """
        {}
        from utils import course; course.begin(7)
        import random, numpy, torch
        print(random.random(), numpy.random.rand(), torch.rand(1).item())
        course.begin(7)
        print(random.random(), numpy.random.rand(), torch.rand(1).item())
        course.begin(8)
        print(random.random(), numpy.random.rand(), torch.rand(1).item())
    """
    after = fresh(numpy_free := numbers.format("")).splitlines()
    before = fresh(numbers.format("import numpy, torch")).splitlines()
    by_hand = fresh("""
        import random, numpy, torch
        random.seed(7), numpy.random.seed(7), torch.manual_seed(7)
        print(random.random(), numpy.random.rand(), torch.rand(1).item())
    """).strip()
    assert "import numpy, torch\n" not in numpy_free
    assert after == before and after[0] == after[1] == by_hand and after[2] != after[0]


def test_begin_is_quick_and_says_nothing():
    seconds = fresh("""
        import time; start = time.process_time()
        from utils import course; course.begin()
        import sys; took = time.process_time() - start
        assert not {"torch", "numpy", "matplotlib"} & set(sys.modules)
        print(took)
    """)
    assert float(seconds) < 0.2


@pytest.mark.parametrize("wanted", ["1", "3", ""])
def test_threads_are_those_asked_for_else_at_most_two(wanted):
    found = fresh(
        "from utils import course; course.begin(); import torch; print(torch.get_num_threads())",
        OMP_NUM_THREADS=wanted,
    )
    assert int(found) == (int(wanted) if wanted else min(2, course.cores()))


def test_another_package_called_utils_loses(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").write_text("")
    (tmp_path / "utils" / "data.py").write_text("raise SystemExit('the wrong utils')")
    found = fresh(
        f"""
        import sys; sys.path.insert(1, {str(tmp_path)!r})
        sys.path.insert(0, {str(course.root())!r})
        from utils import course; course.begin()
        import utils; print(utils.__file__)
        """,
        folder=tmp_path,
    )
    assert Path(found.strip()) == course.root() / "utils" / "__init__.py"


def test_a_hidden_course_is_named_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["utils"], "__file__", str(tmp_path / "utils" / "__init__.py"))
    with pytest.raises(ImportError, match=r"Another package named utils, .* hides the course's: rename it"):
        course.begin()


def test_figures_are_small_named_by_nobody_and_the_same_each_time(tmp_path):
    draw = "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1))\nplt.plot([1, 3, 2])\nplt.show()"
    cells = [course.BOOTSTRAP, draw, course.BOOTSTRAP, draw]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(nb, timeout=60, kernel_name="python3").execute(cwd=str(course.root() / "tests"))
    first, second = (base64.b64decode(nb.cells[i].outputs[0].data["image/png"]) for i in (1, 3))
    assert first == second
    assert b"tEXt" not in first and b"Software" not in first
    assert 100 < int.from_bytes(first[16:20], "big") < 200  # pixels of two inches at 80 dpi
    assert nb.cells[0].outputs == nb.cells[2].outputs == []


# The first cell


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_page_begins_with_the_same_lines(path):
    cells = nbformat.read(path, as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert first.source == course.BOOTSTRAP, "write it anew with: python -m utils.house address"


def test_the_first_cell_is_three_lines_of_formatted_python(tmp_path):
    assert len(course.BOOTSTRAP.splitlines()) == 3
    compile(course.BOOTSTRAP, "first cell", "exec")
    page = tmp_path / "page.ipynb"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(course.BOOTSTRAP)])
    nbformat.write(nb, page)
    for words in (["format", "--check"], ["check"]):
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            *words,
            "--no-cache",
            "--config",
            str(course.root() / "pyproject.toml"),
        ]
        done = subprocess.run([*ruff, str(page)], capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout


# The network


@pytest.fixture
def hub():
    """A hub on this machine that counts the questions it is asked."""

    class Hub(http.server.BaseHTTPRequestHandler):
        asked, status = 0, 200

        def do_HEAD(self):
            Hub.asked += 1
            self.send_response(Hub.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.address = f"http://127.0.0.1:{server.server_port}"
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def may_ask(monkeypatch):
    course.hub_answers.cache_clear()
    for name in ("COURSE_ONLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_online_asks_the_hub_once(may_ask, hub):
    may_ask.setenv("HF_ENDPOINT", hub.address)
    assert course.online() and course.online() and hub.asked == 1


@pytest.mark.parametrize("status, verdict", [(404, True), (403, False), (407, False), (503, False)])
def test_a_barrier_is_not_a_hub(may_ask, hub, status, verdict):
    hub.status = status
    may_ask.setenv("HF_ENDPOINT", hub.address)
    assert course.online() is verdict


@pytest.mark.parametrize(
    "name, value", [("COURSE_ONLINE", "0"), ("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "true")]
)
def test_offline_may_be_said_and_is_not_asked(may_ask, hub, name, value):
    may_ask.setenv("HF_ENDPOINT", hub.address)
    may_ask.setenv(name, value)
    assert not course.online() and hub.asked == 0


def test_a_silent_network_costs_two_seconds_at_most(may_ask):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls, never answers
        may_ask.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not course.online()
        assert time.monotonic() - start < 3
        start = time.monotonic()
        assert not course.online()
        assert time.monotonic() - start < 0.1


def test_no_network_is_known_at_once(may_ask):
    may_ask.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not course.online()


# Where the course writes


def test_state_is_the_named_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "my state é"))
    course.state.cache_clear()
    assert course.state() == tmp_path / "my state é" and course.state().is_dir()
    course.state.cache_clear()


def test_without_a_home_the_state_is_temporary_and_said(monkeypatch, tmp_path, capsys):
    blocked = tmp_path / "a file, no folder"
    blocked.write_text("")
    monkeypatch.delenv("COURSE_STATE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(setup.tempfile, "tempdir", str(tmp_path))
    course.state.cache_clear()
    folder = course.state()
    assert folder.parent == tmp_path and str(folder) in capsys.readouterr().err
    course.state.cache_clear()


# The doctor

WELL = {
    "python": (3, 12),
    "versions": {
        "torch>=2.11,<2.14": "2.13.0+cpu",
        "ipywidgets>=7.7,<9": "8.1.9",
        "anywidget>=0.9.21,<1": "0.11.0",
    },
    "torch": "2.13.0+cpu",
    "sum": 27.0,
    "threads": 2,
    "cores": 4,
    "memory": 8 * 2**30,
    "free_memory": 4 * 2**30,
    "state": Path("/cache"),
    "free_disk": 9 * 2**30,
    "online": True,
    "hub": (Path("/hub"), 3, True),
    "host": "Jupyter",
    "clock": (1.8e9, 1.7e9),
    "edited": [],
}


def test_a_well_machine_is_well():
    report = course.Report(course.checks(WELL))
    assert report.ok and all(row.ok for row in report.rows)
    assert {row.what for row in report.rows} >= {
        "Python",
        "torch",
        "threads",
        "memory",
        "disk",
        "network",
        "hub cache",
    }


@pytest.mark.parametrize(
    "fault, what, said",
    [
        ({"python": (3, 10)}, "Python", "Use Python 3.11 to 3.13"),
        ({"python": (3, 14)}, "Python", "Use Python 3.11 to 3.13"),
        ({"versions": WELL["versions"] | {"torch>=2.11,<2.14": "2.10.0"}}, "packages", "make lab"),
        ({"versions": WELL["versions"] | {"gensim>=4.4,<5": None}}, "packages", "make lab"),
        ({"sum": 26.5}, "torch", "set up again"),
        ({"threads": 8}, "threads", "unset OMP_NUM_THREADS"),
        ({"free_memory": 2**29}, "memory", "shut down other kernels"),
        ({"free_memory": None, "memory": 2**29}, "memory", "shut down other kernels"),
        ({"clock": (1.5e9, 1.7e9)}, "clock", "put here on 2023-11-14, after today: set the clock"),
        ({"free_disk": 2**28}, "disk", "COURSE_STATE"),
        ({"hub": (Path("/hub"), 0, False)}, "hub cache", "set HF_HOME"),
        (
            {"versions": WELL["versions"] | {"anywidget>=0.9.21,<1": None}},
            "widgets",
            "reload the browser's page",
        ),
    ],
)
def test_the_doctor_names_each_fault_and_what_to_do(fault, what, said):
    report = course.Report(course.checks(WELL | fault))
    wrong = {row.what: row for row in report.rows if row.ok is False}
    assert not report.ok and said in wrong[what].advice
    assert set(wrong) <= {what, "packages"}
    assert (
        said.split()[0] in repr(report)
        and "✗" in repr(report)
        and said in report._repr_html_().replace("&#x27;", "'")
    )


def test_no_network_is_good_to_know_but_no_fault():
    report = course.Report(course.checks(WELL | {"online": False}))
    assert report.ok and "○ network" in repr(report) and "Pages work offline" in repr(report)


def test_a_host_without_an_own_python_is_told_what_to_install():
    versions = {"jupyterlab>=4.4,<5": None, "torch>=2.11,<2.14": "2.10.0", "gensim>=4.4,<5": "4.4.0"}
    rows = course.checks(WELL | {"versions": WELL["versions"] | versions, "host": "Colab"})
    packages = next(row for row in rows if row.what == "packages")
    assert packages.found == "torch 2.10.0 (needs >=2.11,<2.14)"
    assert packages.advice == 'Run `%pip install "torch>=2.11,<2.14"`, then restart the kernel.'


def test_an_edited_helper_is_good_to_know_but_no_fault():
    report = course.Report(course.checks(WELL | {"edited": ["utils/check.py"]}))
    assert report.ok and "edited: utils/check.py" in repr(report) and "restart the kernel" in repr(report)


def test_memory_that_nobody_tells_is_no_fault():
    report = course.Report(course.checks(WELL | {"memory": None, "free_memory": None}))
    assert report.ok and "unknown" in repr(report)


def test_the_doctor_shows_text_as_text():
    report = course.Report([course.Row("<b>", "<script>", False, "a & b")])
    assert "<script>" not in report._repr_html_() and "&lt;script&gt;" in report._repr_html_()


def test_the_doctor_examines_this_machine():
    report = course.doctor()
    found = {row.what: row for row in report.rows}
    assert found["Python"].ok and found["packages"].ok and found["torch"].ok
    assert found["Python"].found == "{}.{}".format(*sys.version_info[:2])
