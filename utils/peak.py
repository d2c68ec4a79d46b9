"""How much memory a page holds at its peak: measured where pages run, and a limit where pytest tests them.

As a plugin of pytest (-p utils.peak) it looks at the kernel of every page before it ends: a page above LIMIT is an
error, and the summary names the slowest pages and the largest ones.
"""

import os
import re
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

LIMIT = 2 * 10**9  # bytes: what Binder gives a page, its server included, is a little more
LARGER = {
    "08_likelihood_and_quality.ipynb": 4_500_000_000
}  # does not fit yet: 3.7 GB where its exact search runs
SHOWN = 5  # pages that the summary names


def memory_of(pid, key):
    """Bytes that a process holds now (VmRSS) or held at most (VmHWM); 0 where the system does not tell."""
    with suppress(OSError, TypeError):
        found = re.search(
            rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"), re.MULTILINE
        )
        return int(found[1]) * 1024
    return 0


def children(pid):
    """The processes that this one started, and those that they started."""
    found = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, path.read_text("ascii").split()):
                found += [child, *children(child)]
    return found


def held(pid):
    """Bytes: the peak of this process so far, or what it and all that it started hold now, whichever is more."""
    together = sum(memory_of(one, "VmRSS") for one in [pid, *children(pid)])
    return max(memory_of(pid, "VmHWM"), together)


def spent(pid):
    """Seconds of processor time that this process and what it started have used; 0 where the system does not tell."""
    ticks = 0
    for one in [pid, *children(pid)]:
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{one}/stat").read_text("utf-8").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and that of processes that ended
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def too_much(peak):
    """The end of a sentence for a page whose peak is above the limit, else ""."""
    if peak <= LIMIT:
        return ""
    return f"holds {peak / 1e9:.1f} GB at its peak: a page must run in {LIMIT / 1e9:.0f} GB, as on Binder"


# The plugin --------------------------------------------------------------------------------------------------

SECONDS, PEAKS = (
    defaultdict(float),
    defaultdict(int),
)  # page → what its tests took together, what its kernel held


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Before the kernel of a page ends, note what it held, and refuse what is too much."""
    page, peak = item.parent, 0
    if hasattr(page, "kernel") and (nextitem is None or nextitem.parent is not page):
        with suppress(AttributeError):  # no kernel, or one that died
            peak = held(page.kernel.km.provisioner.pid)
            item.user_properties.append(("peak", peak))
    found = yield
    if (reason := too_much(peak)) and peak > LARGER.get(page.name, 0):
        raise AssertionError(f"{page.name} {reason}")
    return found


def pytest_runtest_logreport(report):
    """Add up what is told about the cells of a page."""
    page = report.nodeid.partition("::")[0]
    if page.endswith(".ipynb"):
        SECONDS[page] += report.duration
        PEAKS[page] = max(PEAKS[page], dict(report.user_properties).get("peak", 0))


def pytest_terminal_summary(terminalreporter):
    """Name the slowest pages and the largest ones."""
    if not SECONDS:
        return
    line = terminalreporter.write_line
    terminalreporter.write_sep("-", f"{len(SECONDS)} pages, {sum(SECONDS.values()):.0f} s")
    for page in sorted(SECONDS, key=SECONDS.get, reverse=True)[:SHOWN]:
        line(f"{SECONDS[page]:6.1f} s      {page}")
    for page in sorted(PEAKS, key=PEAKS.get, reverse=True)[:SHOWN]:
        line(f"{PEAKS[page] / 1e6:6.0f} MB     {page}")
