"""JupyterLab as a student meets it: a server on a copy of the pages, and a headless Chromium in front of it."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat

from utils import course, setup

ROOT = setup.ROOT
CHROMIUM = setup.chromium()
AVAILABLE = bool(
    CHROMIUM and importlib.util.find_spec("playwright") and importlib.util.find_spec("jupyterlab")
)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},  # asks the network, and covers the page
    "notebook-extension/tracker": {"windowingMode": "none"},  # else cells out of sight leave the page
    "docmanager-extension/plugin": {"autosave": False},
}
PATIENCE = 180_000  # milliseconds: a busy machine with two cores is slow, not wrong


def copy_of_the_course(folder):
    """A course in `folder`: copies of the pages, for Lab writes into them, and links to all the rest."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("utils", "data", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def server(folder):
    """The address of a JupyterLab that serves `folder`; its settings and its state are its own."""
    for name, settings in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    url = f"http://127.0.0.1:{free_port()}"
    options = ["--no-browser", "--allow-root", f"--port={url.rsplit(':')[-1]}", "--IdentityProvider.token="]
    options += [f"--ServerApp.root_dir={folder}", "--expose-app-in-browser", "--ServerApp.ip=127.0.0.1"]
    own = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    own |= {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime"}
    environment = os.environ | {name: str(folder / place) for name, place in own.items()}
    with open(folder / "server.log", "w") as log:
        lab = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log
        )
        try:
            wait_for(url, lab, folder / "server.log")
            yield url
        finally:
            lab.terminate()
            lab.wait(30)


def wait_for(url, process, log):
    """Return once the server answers; show its log where it does not."""
    for _ in range(240):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/api", timeout=5)
            return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


NO_KERNELS = {"default": "", "kernelspecs": {}}
NOTEBOOK = "window.jupyterapp.shell.currentWidget"


class Page:
    """One notebook, open in Lab; with a kernel, unless Lab is to have none."""

    def __init__(self, browser, url, folder, name, width=1200, height=900, kernel=True):
        self.path = folder / "notebooks" / f"{name}.ipynb"
        self.cells = nbformat.read(self.path, as_version=4).cells
        self.tab = browser.new_page(viewport={"width": width, "height": height})
        self.tab.set_default_timeout(PATIENCE)
        if not kernel:
            self.tab.route("**/api/kernelspecs*", lambda route: route.fulfill(json=NO_KERNELS))
        self.tab.goto(f"{url}/lab/workspaces/{name}/tree/notebooks/{self.path.name}?reset")
        self.tab.wait_for_selector(".jp-Notebook .jp-Cell")
        if not kernel:
            self.tab.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()
            return
        self.tab.evaluate(f"{NOTEBOOK}.sessionContext.ready")
        ready = f"{NOTEBOOK}.sessionContext.session?.kernel"
        self.wait_until(lambda: self.tab.evaluate(f"{ready}?.connectionStatus") == "connected", "a kernel")
        self.wait_until(lambda: self.tab.evaluate(f"{ready}?.status") == "idle", "an idle kernel")

    def close(self):
        """Close the page and end its kernel, whose memory the next one needs."""
        self.tab.evaluate(f"{NOTEBOOK}.sessionContext.shutdown()")
        self.tab.close()

    def run_all(self):
        """What the menu's Run All Cells does; returns when the last cell has run, or one has failed."""
        self.tab.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        n_cells = sum(cell.cell_type == "code" for cell in self.cells)
        self.tab.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        counts = f"Array.from({NOTEBOOK}.content.model.cells).map(cell => cell.executionCount ?? null)"

        def finished():
            n_run = sum(count is not None for count in self.tab.evaluate(counts))
            return n_run == n_cells or bool(self.problems())

        self.wait_until(finished, "the last cell")

    def cell(self, name):
        """The cell with this id, scrolled into sight."""
        index = [cell.id for cell in self.cells].index(name)
        cell = self.tab.locator(".jp-Notebook .jp-Cell").nth(index)
        cell.scroll_into_view_if_needed()
        return cell

    def problems(self):
        """Every error, warning and lost widget that can be seen on the page."""
        marks = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        seen = [self.tab.locator(f'[data-mime-type="{mark}"]').all_inner_texts() for mark in marks]
        seen += [self.tab.get_by_text("Error displaying widget").all_inner_texts()]
        return [text for texts in seen for text in texts]

    def wait_until(self, condition, what):
        """Wait until `condition()` holds; say what was waited for where it never does. what: words, or their maker"""
        end = time.monotonic() + PATIENCE / 1000
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what() if callable(what) else what}"
            self.tab.wait_for_timeout(100)

    def shot(self, name, cell=None):
        """A screenshot of the window, or of one cell, where COURSE_SHOTS names a folder for them."""
        if folder := os.environ.get("COURSE_SHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            window = self.tab.viewport_size
            if cell:  # a window tall enough for the whole cell
                tall = self.cell(cell).bounding_box()["height"] + 300
                self.tab.set_viewport_size(window | {"height": max(window["height"], int(tall))})
            (self.cell(cell) if cell else self.tab).screenshot(path=str(Path(folder) / f"{name}.png"))
            self.tab.set_viewport_size(window)


@contextlib.contextmanager
def chromium():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield browser
        browser.close()


def write(folder, name, cells):
    """Write a page of code cells, {id: source}."""
    made = [nbformat.v4.new_code_cell(source, id=key) for key, source in cells.items()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nb = nbformat.v4.new_notebook(cells=made, metadata=kernel)
    nb.nbformat_minor = 5
    nbformat.write(nb, folder / "notebooks" / f"{name}.ipynb")


def scratch(folder, name, cells):
    """Write a page made of these {id: source} behind the course's first cell."""
    write(folder, name, {"boot": course.BOOTSTRAP, **cells})


def page_cells(name):
    """The cells of a page of the course."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells


def widget_cells(name):
    """The cells of a page that show a widget."""
    return [cell for cell in page_cells(name) if "widget" in cell.metadata.get("tags", [])]


def pages_with_widgets():
    """The names of the lessons that have a widget."""
    names = sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb"))
    return [name for name in names if widget_cells(name)]


class Widget:
    """One widget of an open page: its controls by the names that people read, its picture, and its words."""

    def __init__(self, page, cell):
        self.page, self.cell = page, page.cell(cell)
        self.view = self.cell.locator(".jp-OutputArea-output .jupyter-widgets").first
        self.view.wait_for()
        self.moved = set()

    def controls(self):
        """The names of all controls; of a button without words, what its icon shows."""
        found = []
        for kind in ("input", "select", "textarea"):
            found += [
                f"{kind} {box.evaluate('box => box.labels[0].innerText')}"
                for box in self.view.locator(kind).all()
            ]
        found += [
            f"slider {row.locator('label').inner_text()}" for row in self.view.locator(".widget-slider").all()
        ]
        for one in self.view.locator("button").all():
            icon = one.locator("i[class*=fa-]")
            words = icon.get_attribute("class").split("fa-")[-1] if icon.count() else one.inner_text()
            found.append(f"button {words.strip()}")
        return found

    def words(self):
        """What the widget says below its picture."""
        return self.view.locator("[role=status]").last.inner_text()

    def picture(self):
        """The source of the picture that the widget shows, or the coloured text that is in its place; "" if none."""
        pictures = self.view.locator("img")
        if pictures.count():
            return pictures.first.get_attribute("src")
        htmls = self.view.locator(".widget-html-content").all()
        return "".join(html.inner_html() for html in htmls if not html.locator("[role=status]").count())

    def then(self, act, says=None, redraws=True):
        """Act, then wait for another picture, or see that it stays, and for words that match `says`."""
        before = self.picture()
        act()
        if says is not None:
            self.page.wait_until(
                lambda: re.search(says, self.words()), lambda: f"{says!r} in {self.words()!r}"
            )
        if redraws:
            self.page.wait_until(
                lambda: self.picture() != before, lambda: f"another picture beside {self.words()!r}"
            )
        else:
            assert self.picture() == before

    def write(self, label, text, says, redraws=True, kind="input"):
        """Type a text into the box with this label, and leave it."""
        box = self.view.get_by_label(label, exact=True)

        def act():
            box.fill(text)
            box.press("Tab" if kind == "textarea" else "Enter")

        self.moved.add(f"{kind} {label}")
        self.then(act, says, redraws)

    def choose(self, label, option, says):
        """Choose from the list with this label."""
        self.moved.add(f"select {label}")
        self.then(lambda: self.view.get_by_label(label, exact=True).select_option(option), says)

    def slide(self, label, key, readout, says=None, redraws=True):
        """Press a key on the slider with this label; its number must be `readout`."""
        row = self.view.locator(".widget-slider").filter(has=self.page.tab.get_by_text(label, exact=True))

        def act():
            row.get_by_role("slider").focus()
            self.page.tab.keyboard.press(key)
            number = row.locator(".widget-readout")
            self.page.wait_until(lambda: number.inner_text() == readout, f"{label} at {readout}")

        self.moved.add(f"slider {label}")
        self.then(act, says, redraws)

    def press(self, words, says=None, redraws=True):
        """Press the button with these words, or with this icon."""
        by_icon = self.view.locator("button").filter(
            has=self.page.tab.locator(f"i.fa-{words.replace(' ', '-')}")
        )
        named = self.view.get_by_role("button", name=words, exact=True)
        self.moved.add(f"button {words}")
        self.then(lambda: (by_icon if by_icon.count() else named).click(), says, redraws)
