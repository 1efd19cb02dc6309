"""What every run of the tests has in common."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to repeat each test that failed, ready to be pasted."""
    for outcome in ("failed", "error"):
        for report in terminalreporter.getreports(outcome):
            terminalreporter.write_line(f"To repeat: .venv/bin/pytest '{report.nodeid}'")
