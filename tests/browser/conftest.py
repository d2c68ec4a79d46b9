"""The browser's tests are collected only where a Chromium, playwright and JupyterLab are installed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import lab

collect_ignore_glob = [] if lab.AVAILABLE else ["test_*.py"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return lab.copy_of_the_course(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def url(folder):
    with lab.server(folder) as address:
        yield address


@pytest.fixture(scope="module")  # its event loop must be gone before other tests run theirs
def browser():
    with lab.chromium() as opened:
        yield opened


@pytest.fixture
def open_page(browser, url, folder):
    """open_page(name) → the notebook of that name in Lab; closed after the test."""
    pages = []

    def open_one(name, **window):
        pages.append(lab.Page(browser, url, folder, name, **window))
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()
