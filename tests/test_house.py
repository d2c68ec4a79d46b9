"""The set-up: finds a Python, finishes what it began, says what is wrong in a sentence; and versions stand once."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from utils import course, house, setup, show

ROOT = setup.ROOT
INSTALLED = house.tree(setup.requirements(*house.EXTRAS))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in a folder with spaces and accents, whose set-up installs nothing but does all the rest."""
    root = tmp_path / "mon cours d'été"
    root.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    for name in ("COURSE_STATE", "COURSE_PYTHON", "COURSE_GPU"):
        monkeypatch.delenv(name, raising=False)

    def make_venv(python, venv):
        (venv / "bin").mkdir(parents=True)
        setup.python_of(venv).symlink_to(python)
        (venv / "pyvenv.cfg").write_text("version = 3.11.7\n")

    monkeypatch.setattr(setup, "ROOT", root)
    monkeypatch.setattr(setup, "find_python", lambda: sys.executable)
    monkeypatch.setattr(setup, "make_venv", make_venv)
    monkeypatch.setattr(setup, "torch_options", lambda python: [])
    monkeypatch.setattr(setup, "pip", lambda python, words, watch=None: (0, ""))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


# Setting up


def test_a_set_up_is_done_once(checkout, monkeypatch, capsys):
    python = setup.ready()
    assert python == checkout / ".venv" / "bin" / "python" and "Ready" in capsys.readouterr().err
    monkeypatch.setattr(setup, "pip", lambda *_: pytest.fail("installed again"))
    start = time.perf_counter()
    assert setup.ready() == python
    assert time.perf_counter() - start < 0.1 and capsys.readouterr().err == ""


def test_new_pins_bring_the_environment_up_to_date(checkout, monkeypatch, capsys):
    setup.ready()
    with open(checkout / "constraints.txt", "a") as file:
        file.write("one-more==1.0\n")
    monkeypatch.setattr(setup, "make_venv", lambda *_: pytest.fail("made from nothing"))
    setup.ready()
    assert "up to date" in capsys.readouterr().err and setup.is_ready(checkout / ".venv")


@pytest.mark.parametrize("when", ["making the environment", "installing", "leaving the last marks"])
def test_a_set_up_that_was_cut_off_is_redone_from_nothing(checkout, monkeypatch, capsys, when):
    step = {
        "making the environment": "make_venv",
        "installing": "pip",
        "leaving the last marks": "quiet_lab",
    }[when]
    whole = getattr(setup, step)

    def cut_off(*arguments):
        half = checkout / ".venv" / "lib" / "half a package"
        half.mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(setup, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            setup.ready()
    assert not setup.is_ready(checkout / ".venv")
    assert getattr(setup, step) is whole
    setup.ready()
    assert "cut off" in capsys.readouterr().err
    assert setup.is_ready(checkout / ".venv") and not (checkout / ".venv/lib/half a package").exists()


def test_an_environment_whose_python_is_gone_is_redone(checkout):
    python = setup.ready()
    python.unlink()
    python.symlink_to("/usr/bin/python-that-an-upgrade-removed")
    assert not setup.is_ready(checkout / ".venv")
    setup.ready()
    assert setup.is_ready(checkout / ".venv") and python.exists()


def test_two_at_once_set_up_once(checkout, monkeypatch):
    calls = []

    def slow(python, words, watch=None):
        calls.append(words)
        time.sleep(0.3)
        return 0, ""

    monkeypatch.setattr(setup, "pip", slow)
    both = [threading.Thread(target=setup.ready) for _ in range(2)]
    [thread.start() for thread in both], [thread.join() for thread in both]
    assert len(calls) == 1 and setup.is_ready(checkout / ".venv")


def test_what_is_asked_of_pip(checkout, monkeypatch):
    calls = []
    monkeypatch.setattr(setup, "pip", lambda python, words, watch=None: calls.append(words) or (0, ""))
    setup.ready()
    assert calls[0][calls[0].index("-c") + 1] == "constraints.txt"
    assert set(setup.requirements("dev")) <= set(calls[0])


def test_a_read_only_checkout_goes_to_a_cache_folder_that_is_named(checkout, monkeypatch, capsys, tmp_path):
    real = setup.writable
    monkeypatch.setattr(setup, "writable", lambda folder: Path(folder) != checkout and real(folder))
    venv = setup.ready().parent.parent
    assert venv.parent == tmp_path / "cache" / setup.NAME and not (checkout / ".venv").exists()
    assert (
        f"This checkout is read-only: what is installed and written goes to {venv.parent}"
        in capsys.readouterr().err
    )


def test_the_named_state_folder_wins(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "là bas"))
    assert setup.ready() == tmp_path / "là bas" / ".venv" / "bin" / "python"
    assert not (checkout / ".venv").exists()


def test_a_state_folder_that_cannot_be_written_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_STATE", str(tmp_path / "file"))
    with pytest.raises(
        setup.Stop, match="COURSE_STATE names .*file, which cannot be written: name another folder"
    ):
        setup.state_folder()


# What is wrong, in one sentence


def fake_python(folder, name, says):
    """A command that answers like a Python of some version, or fails as a shim does."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        "#!/bin/sh\n" + (f"echo '{says}'\n" if says else "echo 'no such version' >&2; exit 127\n")
    )
    path.chmod(0o755)
    return str(path)


def only(monkeypatch, *folders):
    monkeypatch.delenv("COURSE_PYTHON", raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))


def test_the_first_python_that_runs_and_fits_is_taken(monkeypatch, tmp_path):
    fake_python(tmp_path / "shims", "python3.11", None)
    fake_python(tmp_path / "shims", "python3", "3 9 whole")
    fake_python(tmp_path / "bin", "python3", "3 14 whole")
    fits = fake_python(tmp_path / "bin", "python3.12", "3 12 whole")
    fake_python(tmp_path / "bin", "python3.13", "3 13 whole")
    only(monkeypatch, tmp_path / "shims", tmp_path / "bin")
    assert setup.find_python() == fits


def test_plain_python3_will_do(monkeypatch, tmp_path):
    fits = fake_python(tmp_path / "bin", "python3", "3 13 whole")
    only(monkeypatch, tmp_path / "bin")
    assert setup.find_python() == fits


def test_a_named_python_is_the_only_one(monkeypatch, tmp_path):
    fake_python(tmp_path / "bin", "python3.11", "3 11 whole")
    only(monkeypatch, tmp_path / "bin")
    monkeypatch.setenv("COURSE_PYTHON", fake_python(tmp_path / "bin", "mine", "3 12 whole"))
    assert setup.find_python().endswith("mine")


@pytest.mark.parametrize(
    "found, sentence",
    [
        (
            {},
            "needs Python 3.11 to 3.13 and found none on PATH: install one .*apt install python3.11.* COURSE_PYTHON",
        ),
        ({"python3": "3 9 whole", "python3.14": "3 14 whole"}, "found 3.9 on PATH: install one"),
        (
            {"python3.12": "3 12"},
            "python3.12 cannot make environments: install its venv module .*python3.12-venv",
        ),
    ],
)
def test_no_python_that_fits(monkeypatch, tmp_path, found, sentence):
    (tmp_path / "bin").mkdir()
    for name, says in found.items():
        fake_python(tmp_path / "bin", name, says)
    only(monkeypatch, tmp_path / "bin")
    with pytest.raises(setup.Stop, match=sentence):
        setup.find_python()


def test_a_full_disk_is_known_before_it_is_full(checkout, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda path: usage(10**12, 10**12, 3 * 10**8))
    monkeypatch.setattr(setup, "make_venv", lambda *_: pytest.fail("began all the same"))
    with pytest.raises(
        setup.Stop, match=r"Not enough space in .*été/.venv: .* needs 3 GB, 0.3 GB are free. .*COURSE_STATE"
    ):
        setup.ready()


NO_NAMES = (
    "WARNING: Retrying after connection broken by 'NewConnectionError(Failed to establish a new connection: [Errno -3] "
    "Temporary failure in name resolution')': /simple/anywidget/\n"
    "ERROR: Could not find a version that satisfies the requirement anywidget<1,>=0.9.21 (from versions: none)\n"
    "ERROR: No matching distribution found for anywidget<1,>=0.9.21"
)
NO_INDEX = NO_NAMES.partition("\n")[2]
NO_BUILD = (
    "ERROR: Could not find a version that satisfies the requirement torch<2.14 (from versions: 2.9.0, 2.9.1)"
)
FULL = "Installing collected packages: torch\nERROR: Could not install packages: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    "log, sentence",
    [
        (NO_NAMES, "first set-up needs the network.*connect .*and run the same command again"),
        (NO_INDEX, "first set-up needs the network"),
        ("SSLError(certificate verify failed)\n" + NO_INDEX, "first set-up needs the network"),
        (NO_BUILD, "no build of torch for the Python in .*: set COURSE_PYTHON to another version"),
        (FULL, "Not enough space in .* COURSE_STATE"),
        (
            "Collecting x\nERROR: ResolutionImpossible: read the docs",
            "ResolutionImpossible.*run the same command again",
        ),
        ("", "could not install"),
    ],
)
def test_what_pip_says_becomes_one_sentence(checkout, monkeypatch, log, sentence):
    monkeypatch.setattr(setup, "pip", lambda *_: (1, log))
    with pytest.raises(setup.Stop, match=sentence) as stop:
        setup.ready()
    assert "\n" not in str(stop.value) and not setup.is_ready(checkout / ".venv")


def test_a_real_pip_without_a_network_gives_the_sentence_soon(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    start = time.monotonic()
    code, log = setup.pip(sys.executable, ["install", "no-package-has-this-name"])
    assert code and "needs the network" in setup.diagnose(log, ROOT) and time.monotonic() - start < 20


def test_main_prints_the_sentence_and_nothing_else(checkout, monkeypatch, capsys):
    monkeypatch.setattr(setup, "pip", lambda *_: (1, NO_NAMES))
    assert setup.main(["test"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("The first set-up needs the network")


def test_an_address_that_never_answers_costs_its_time_only():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not setup.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/torch/", seconds=0.5)
        assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    "reach, offered, verdict",
    [
        (True, "", ["--extra-index-url", setup.CPU_WHEELS]),
        (False, "Would install torch-2.13.0+cpu", []),
        (False, "Requirement already satisfied: torch==2.13.0", []),
        (False, "Would install torch-2.13.0", None),
    ],
)
def test_the_cuda_build_is_never_fetched_unasked(monkeypatch, reach, offered, verdict):
    monkeypatch.delenv("COURSE_GPU", raising=False)
    monkeypatch.setattr(setup.sys, "platform", "linux")
    monkeypatch.setattr(setup, "answers", lambda url: reach)
    monkeypatch.setattr(setup, "pip", lambda *_: (0, offered))
    if verdict is None:
        with pytest.raises(setup.Stop, match="Only the CUDA build .*COURSE_GPU=1"):
            setup.torch_options(sys.executable)
        monkeypatch.setenv("COURSE_GPU", "1")
        verdict = []
    assert setup.torch_options(sys.executable) == verdict


# The verbs


def test_the_tests_end_with_pytest_and_cover_everything():
    commands = [" ".join(words) for words in setup.steps("test", [])]
    assert [re.match(r"-m ([\w.]+ ?\w*)", command)[1] for command in commands[:3]] == [
        "ruff check",
        "ruff format",
        "utils.pages compare",
    ]
    assert commands[-1].startswith("-m pytest --nbval --nbval-current-env --nbval-cell-timeout=120")
    assert commands[-1].endswith(" ".join(["tests", *setup.finished()])) and "--dist loadfile" in commands[-1]


def test_the_browsers_tests_have_a_verb_of_their_own():
    browser = ROOT / setup.BROWSER
    assert list(browser.glob("test_*.py"))
    assert f"--ignore={setup.BROWSER}" in setup.steps("test", [])[-1]
    assert [words[-1] for words in setup.steps("test-browser", [])] == [setup.BROWSER]
    assert (
        setup.steps("test", ["tests/browser"])[-1][-1] == "tests/browser"
    )  # whoever asks for them gets them
    helped = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", env=outside_make()
    )
    assert re.search("^test-browser\t", helped.stdout, re.MULTILINE)


def test_without_a_chromium_its_tests_say_so_before_they_set_anything_up(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(setup, "ready", lambda: pytest.fail("set up all the same"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COURSE_CHROMIUM", raising=False)
    if setup.chromium():
        pytest.skip("a Chrome is installed where PATH does not matter")
    assert setup.main(["test-browser"]) == 1
    said = capsys.readouterr().err.strip()
    assert (
        re.search("found none: install one .*apt install chromium.* COURSE_CHROMIUM", said)
        and "\n" not in said
    )
    monkeypatch.setenv("COURSE_CHROMIUM", fake_python(tmp_path, "my-own", "whole"))
    assert setup.chromium() == str(tmp_path / "my-own")


def test_an_extra_is_added_once_and_its_failure_is_a_sentence(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(setup, "pip", lambda python, words: asked.append(words) or (0, ""))
    setup.add(Path(sys.executable), "browser", "pytest")
    assert asked == [] and capsys.readouterr().err == ""
    setup.add(Path(sys.executable), "browser", "no_module_has_this_name")
    assert any(word.startswith("playwright") for word in asked[0]) and "constraints.txt" in asked[0]
    assert "Adding what `browser` needs" in capsys.readouterr().err
    monkeypatch.setattr(setup, "pip", lambda *_: (1, NO_NAMES))
    with pytest.raises(setup.Stop, match="needs the network"):
        setup.add(Path(sys.executable), "browser", "no_module_has_this_name")


def test_a_page_is_run_unless_its_lesson_is_a_draft(tmp_path):
    for name in (
        "notebooks/01_a",
        "notebooks/02_b",
        "notebooks/hw01_a",
        "solutions/hw01_a",
        "solutions/hw02_b",
    ):
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"metadata": {"course": {"draft": name == "notebooks/02_b"}}}))
    expected = ["notebooks/01_a.ipynb", "notebooks/hw01_a.ipynb", "solutions/hw01_a.ipynb"]
    assert setup.finished(tmp_path) == expected
    assert set(setup.finished()) <= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/*.ipynb")}


def test_all_steps_run_and_the_first_failure_counts():
    env = dict(os.environ)
    codes = [["-c", f"raise SystemExit({code})"] for code in (0, 3, 0, 4)]
    assert setup.run_steps(codes, sys.executable, env) == 3
    assert setup.run_steps(codes[:1], sys.executable, env) == 0


def test_tested_pages_see_one_thread_no_network_and_no_settings_of_the_user(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.delenv("THREADS", raising=False)
    found = setup.variables(Path(sys.executable), "test")
    assert found["OMP_NUM_THREADS"] == "1" and found["COURSE_ONLINE"] == "0" and "PYTHONPATH" not in found
    assert {"IPYTHONDIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"} <= set(found)
    monkeypatch.setenv("THREADS", "2")
    assert setup.variables(Path(sys.executable), "test")["OMP_NUM_THREADS"] == "2"


def outside_make():
    """The environment, also when these tests were started by make itself."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))
    }


def test_make_works_in_a_folder_with_spaces_and_passes_words_on(tmp_path):
    folder = tmp_path / "mon cours d'été"
    (folder / "utils").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "utils" / "setup.py").write_text(
        "import os, sys; print(sys.argv[1:], os.environ.get('THREADS'))"
    )
    for verb in ("lab", "test", "test-browser", "settings", "run", "made", "format", "bench"):
        words = ["make", verb, "ARGS=07 hw07", "THREADS=2"]
        done = subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", env=outside_make())
        assert done.stdout.strip() == f"{[verb, '07', 'hw07']} 2", done.stderr


def test_make_passes_over_commands_that_do_not_run(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "setup.py").write_text("print('ran')")
    shutil.copy(ROOT / "Makefile", tmp_path)
    fake_python(tmp_path / "shims", "python3", None)
    fake_python(tmp_path / "shims", "python3.11", None)
    (tmp_path / "shims" / "python3.12").symlink_to(sys.executable)
    words = [shutil.which("make"), "test"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env=outside_make() | {"PATH": f"{tmp_path}/shims"},
    )
    assert done.stdout.strip() == "ran"


def test_ci_runs_the_readme_s_own_command():
    command = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1].removeprefix("exec ")
    assert re.search(rf"^{command}\b", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_verb_of_the_readme_is_in_the_makefile():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z -]+)`", text)) | set(
        re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    )
    assert {verb for words in named for verb in words.split()} <= verbs and "test" in verbs


# Versions


def test_every_pin_satisfies_every_range():
    pins = setup.pins()
    for line in setup.requirements(*house.EXTRAS):
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), line


def test_pins_are_whole_versions_without_a_build_s_name():
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in setup.pins().values())


def test_the_tree_is_closed_and_holds_nothing_else():
    more = set(setup.pins()) - set(INSTALLED)
    assert set(INSTALLED) <= set(setup.pins()), "make it anew with: python -m utils.house pins"
    assert (
        not more or None in INSTALLED.values()
    )  # what an extra requires is known only where it is installed


def test_what_pinned_packages_require_is_pinned_to_fit():
    pins, seen = setup.pins(), 0
    for name in (name for name, version in pins.items() if INSTALLED.get(name) == version):
        for requirement in house.needs(name):
            pinned = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pinned, prereleases=True), f"{name} needs {requirement}"
            seen += 1
    if not seen:
        pytest.skip("other versions than the pinned ones are installed here")


def test_environment_yml_is_what_pyproject_makes():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert text == house.environment_yml()
    assert "  - python=3.11\n" in text and "nodefaults" in text and "-e ." not in text
    assert text.index("--extra-index-url") < text.index("torch")


def test_the_doctor_and_the_set_up_know_the_same_range():
    assert setup.python_range() == ((3, 11), (3, 14))
    assert house.python_versions() == ["3.11", "3.12", "3.13"]


# README


def test_the_readme_is_fresh_and_lists_every_page_once():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == house.readme()
    for path in ROOT.glob("notebooks/[0-9]*.ipynb"):
        assert f"[{path.stem}](notebooks/{path.name})" in text
    names = [name for part in course.PAGES.values() for name in part]
    assert [name[:2] for name in names] == [f"{number:02d}" for number in range(27)]


def test_the_picture_is_fresh_and_a_change_would_be_seen():
    drawn = house.picture()
    assert house.same_picture(drawn, house.PICTURE.read_bytes()), "draw it anew with: make made"
    assert not house.same_picture(drawn, show.png(show.course_map(existing=["26_conditional_beam_search"])))


def test_a_page_that_is_not_there_is_not_promised(monkeypatch, tmp_path):
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(course, "root", lambda: tmp_path)
    (tmp_path / "notebooks").mkdir()
    assert "coming" in house.page_row("03_recurrent_networks", "Why?") and "](" not in house.page_row(
        "03_x", "Why?"
    )
    (tmp_path / "notebooks" / "03_x.ipynb").write_text('{"metadata": {"course": {"draft": true}}}')
    assert "begun" in house.page_row("03_x", "Why?")
    (tmp_path / "notebooks" / "03_x.ipynb").write_text('{"metadata": {}}')
    (tmp_path / "notebooks" / "hw03_x.ipynb").write_text("{}")
    row = house.page_row("03_x", "Why?")
    assert (
        "begun" not in row
        and "[03_x](notebooks/03_x.ipynb)" in row
        and "[hw03_x](notebooks/hw03_x.ipynb)" in row
    )


@pytest.mark.parametrize(
    "link", re.findall(r"\]\((?!https?:|#)([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
)
def test_every_link_of_the_readme_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_students_lab_has_no_panels_for_graders(tmp_path):
    setup.quiet_lab(tmp_path)
    shown = json.loads((tmp_path / "etc/jupyter/labconfig/page_config.json").read_text())
    assert shown["disabledExtensions"] == {"@jupyter/nbgrader": True}
    theirs = Path(sys.prefix) / "etc/jupyter/jupyter_server_config.d/nbgrader.json"
    if not theirs.exists():
        pytest.skip("nbgrader is not installed here: `make test` installs it")
    (ours,) = (tmp_path / "etc/jupyter/jupyter_server_config.d").iterdir()
    on, off = (json.loads(path.read_text())["ServerApp"]["jpserver_extensions"] for path in (theirs, ours))
    assert ours.name > theirs.name and off == dict.fromkeys(on, False)  # the last file that is read decides


# Courses of several lengths


@pytest.mark.parametrize("weeks", house.PLANS)
def test_a_plan_teaches_nothing_before_what_it_needs(weeks):
    plan = house.PLANS[weeks]
    assert len(plan) == weeks
    numbers = [number for week in plan for number in week.split()]
    assert len(set(numbers)) == len(numbers)
    at = {number: place for place, number in enumerate(numbers)}
    for before, after in show.needs():
        assert after not in at or at.get(before, 99) < at[after], (before, after)
    for homework in filter(lambda number: number.startswith("hw"), numbers):
        assert at[homework.removeprefix("hw")] < at[homework]


def test_twelve_weeks_hold_the_whole_course():
    pages = [path.stem for folder in ("notebooks", "solutions") for path in (ROOT / folder).glob("*.ipynb")]
    numbers = {number for week in house.PLANS[12] for number in week.split()}
    assert numbers == {name.split("_")[0] for name in pages}


def test_the_instructors_table_adds_up():
    rows = [row.split(" | ") for row in house.homework_table().splitlines()[2:]]
    assert len(rows) == 11
    assert all(float(by_us) + float(by_hand) == 20 and int(n) >= 5 for _, n, by_us, by_hand, _ in rows)
