"""What runs elsewhere and what visitors read: workflows call only what exists, forms are forms, and links are asked."""

import http.server
import importlib.util
import re
import subprocess
import threading
import time

import pytest
import yaml

from utils import course, house, links, setup

ROOT = setup.ROOT
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs():
    """[(workflow's name, job's name, job)] of all workflows."""
    return [(path.stem, name, job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


def commands():
    """Every command line that a workflow runs: [(workflow, line)]."""
    runs = [(flow, step["run"]) for flow, _, job in jobs() for step in job["steps"] if "run" in step]
    return [(flow, line) for flow, run in runs for line in run.splitlines()]


def unknown(line):
    """What this command line calls and the course does not have."""
    found = []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in re.findall(r"\bmake ([a-z-]+)", line):
        found += [] if re.search(rf"^{verb}:", makefile, re.MULTILINE) else [f"make {verb}"]
    for module in re.findall(r"-m (utils[\w.]*)", line):
        found += [] if importlib.util.find_spec(module) else [module]
    for path in re.findall(
        r"(?<![\w/$.-])(?:utils/|tests/?|notebooks/?|solutions/?|constraints)[\w./]*", line
    ):
        found += [] if (ROOT / path).exists() else [path]
    for option in re.findall(r"--(?:nbval|dist|ignore)[\w-]*", line):
        found += [] if option in OPTIONS else [option]
    return found


OPTIONS = {"--nbval", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "--dist", "--ignore"}


def test_the_options_are_pytest_s(pytestconfig):
    for option in OPTIONS:
        pytestconfig.getoption(option)  # ValueError for one that there is not
    with pytest.raises(ValueError):
        pytestconfig.getoption("--nbval-best")


def test_there_are_the_workflows_that_the_course_promises():
    assert {"tests", "weekly", "nightly"} <= {path.stem for path in WORKFLOWS}
    lines = [line for _, line in commands()]
    assert {"make test", "make test-browser", "make settings"} <= set(
        lines
    ) and "python -m utils.links" in lines


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_stops_in_time_and_pins_what_it_uses(path):
    flow = load(path)
    rights = [flow["permissions"], *(job.get("permissions", {}) for job in flow["jobs"].values())]
    assert rights[0] == {"contents": "read"} and set(flow["concurrency"]) == {"group", "cancel-in-progress"}
    if path.stem in ("tests", "weekly", "nightly"):
        assert not any(rights[1:])
    for job in flow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 180
        for step in job["steps"]:
            pinned = re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step.get("uses", "a/b@v1"))
            assert pinned, step["uses"]


def test_every_command_of_a_workflow_is_one_that_the_course_has():
    assert (
        unknown("make nothing")
        and unknown("python -m utils.nothing")
        and unknown("pytest --nbval-best tests/no.py")
    )
    assert len(commands()) > 8
    assert {line: missing for _, line in commands() if (missing := unknown(line))} == {}


def test_every_command_is_whole_for_the_shell():
    for _, line in commands():
        plain = re.sub(r"\$\{\{.*?\}\}", "x", line)
        done = subprocess.run(["bash", "-n", "-c", plain], capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr


def test_every_python_and_every_system_is_tested():
    found = {name: job["strategy"]["matrix"] for flow, name, job in jobs() if flow == "tests"}
    assert found["course"]["python"] == found["windows"]["python"] == house.python_versions()
    assert found["course"]["os"] == ["ubuntu-latest", "macos-latest"]
    ends = {name: job["strategy"]["matrix"]["include"] for flow, name, job in jobs() if name == "versions"}
    assert ends["versions"] == [
        {"ends": "lowest", "python": house.python_versions()[0]},
        {"ends": "newest", "python": house.python_versions()[-1]},
    ]


# The ends of the ranges


def test_the_lowest_series_of_every_range_is_in_it(capsys):
    from packaging.requirements import Requirement

    assert setup.lowest("torch>=2.11,<2.14") == "torch==2.11.*"
    assert setup.main(["ranges", "lowest", "dev"]) == 0
    low = capsys.readouterr().out.split()
    assert setup.main(["ranges", "dev"]) == 0
    assert capsys.readouterr().out.splitlines() == setup.requirements("dev") and len(low) == len(
        setup.requirements("dev")
    )
    for line, wide in zip(map(Requirement, low), map(Requirement, setup.requirements("dev"))):
        first = str(line.specifier).removeprefix("==").removesuffix(".*")
        assert line.name == wide.name and wide.specifier.contains(first)
    assert setup.main(["ranges", "nothing"]) == 1 and "no extra 'nothing'" in capsys.readouterr().err


# Citation, forms


def test_the_citation_says_what_pyproject_says():
    about, cited = house.project(), load(ROOT / "CITATION.cff")
    assert cited["title"] == "Language Models, Built and Measured" and cited["version"] == about["version"]
    assert " AND ".join(cited["license"]) == about["license"] and cited["abstract"] == about["description"]
    assert cited["cff-version"] == "1.2.0" and cited["authors"][0]["name"] and cited["message"]
    assert re.sub(r"[^a-z]+", "-", cited["title"].lower()) == about["name"]


def test_the_citation_names_the_address_once_there_is_one(monkeypatch):
    assert ("repository-code" in house.citation()) == ("OWNER/REPO" not in course.REPO)
    monkeypatch.setattr(course, "REPO", "https://github.com/someone/course")
    assert yaml.safe_load(house.citation())["repository-code"] == "https://github.com/someone/course"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_a_form(path):
    form = load(path)
    assert {"name", "description", "title", "labels", "body"} == set(form) and len(form["body"]) <= 3
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) and all(field["type"] in ("input", "textarea") for field in form["body"])
    assert all(field["attributes"]["label"] and field["validations"]["required"] for field in form["body"])


def test_there_is_a_form_for_a_wrong_number_a_page_that_stops_and_an_idea():
    assert [path.stem[2:] for path in FORMS] == ["a_wrong_number", "a_page_that_does_not_run", "an_idea"]
    assert "course.doctor()" in FORMS[1].read_text(encoding="utf-8")


def test_contributing_has_four_steps_and_names_what_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == list("1234")
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {verb for words in re.findall(r"`make ([a-z ]+)`", text) for verb in words.split()} <= verbs
    for place in re.findall(r"`([\w./*]+/[\w./*]*|\w+\.(?:yml|txt|cff))`|\]\(([^)]+)\)", text):
        assert list(ROOT.glob("".join(place).rstrip("/")))


def test_the_changelog_ends_with_the_version_that_pages_fetch():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert versions[0] == house.project()["version"] == course.TAG.removeprefix("v")


# Links


def test_addresses_are_found_without_the_signs_around_them():
    text = "See [it](https://a.org/b_c). Or <https://a.org/b_c>; https://b.org/x?y=1, and `https://c.org/z`… "
    text += "https://github.com/OWNER/REPO https://colab.research.google.com/x https://a.org/b_c#part https://d.org "
    found = links.links(
        {"one.md": text, "two.md": "https://a.org/b_c zoo.load('someone/model') zoo.load('gpt')"}
    )
    assert found == {
        "https://a.org/b_c": ["one.md", "two.md"],
        "https://b.org/x?y=1": ["one.md"],
        "https://c.org/z": ["one.md"],
        "https://huggingface.co/someone/model": ["two.md"],
    }


def test_the_course_s_own_links_are_found():
    found = links.links(links.texts())
    assert "https://huggingface.co/openai-community/gpt2" in found and len(found) > 8


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names; /405 to those who only ask for the head."""

    def do_HEAD(self):
        self.answer(405 if self.path == "/head" else int(self.path[1:]))

    def do_GET(self):
        self.answer(200 if self.path == "/head" else int(self.path[1:]))

    def answer(self, status):
        if status == 1:
            return time.sleep(1.5)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_what_is_gone_is_told_from_what_only_refuses(monkeypatch, capsys):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_port}"
    expected = {
        "/200": True,
        "/head": True,
        "/404": False,
        "/410": False,
        "/403": None,
        "/429": None,
        "/503": None,
        "/1": None,
    }
    try:
        found = links.check({site + path: ["a.md"] for path in expected}, seconds=0.5)
        assert {link.removeprefix(site): well for link, (well, _) in found.items()} == expected
        monkeypatch.setattr(links, "texts", lambda: {})
        monkeypatch.setattr(links, "links", lambda texts: {f"{site}/200": ["a.md"], f"{site}/404": ["b.md"]})
        assert links.main() == 1 and f"✗ {site}/404 (404), in b.md" in capsys.readouterr().err
    finally:
        server.shutdown()
        server.server_close()
    assert links.verdict("http://no-such-host.invalid/x", 5)[0] is False
    assert links.verdict("http://127.0.0.1:9/x", 2)[0] is None
