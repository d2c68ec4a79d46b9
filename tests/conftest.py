"""What holds for every test: the course can be imported, kernels have one thread, and no page waits for a network."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("COURSE_ONLINE", "0")


def pytest_terminal_summary(terminalreporter):
    """Print the mutation score: the share of tests marked `mutant` (a wrong answer that a check rejects) that pass."""
    verdicts = {
        report.nodeid: outcome == "passed"
        for outcome in ("passed", "failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if "mutant" in getattr(report, "keywords", {})
    }
    if verdicts:
        caught = sum(verdicts.values())
        share = 100 * caught // len(verdicts)
        terminalreporter.write_sep(
            "-", f"mutation score: {caught} of {len(verdicts)} wrong answers caught, {share} %"
        )
