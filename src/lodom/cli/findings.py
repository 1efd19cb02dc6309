"""What the rules found, as lines: blockers bare, as 1.2 prints them, the rest marked."""

from collections.abc import Mapping, Sequence
from typing import Any

Finding = Mapping[str, Any]


def lines(findings: Sequence[Finding], *, drawing: str = "", verbose: bool = False) -> list[str]:
    """One line a finding, in the order given; ``-v`` adds ids, remedies, notes and the drawing."""
    shown: list[str] = []
    for finding in findings:
        text = _line(finding, verbose=verbose)
        if text:
            shown.append(text)
        if text and verbose and finding.get("remedy"):
            shown.append(f"    Remedy: {finding['remedy']}")
    if verbose and drawing:
        shown += ["", *drawing.rstrip("\n").splitlines(), ""]
    return shown


def _line(finding: Finding, *, verbose: bool) -> str:
    severity, text = finding["severity"], str(finding["text"])
    if severity == "note" and not verbose:
        return ""
    mark = {"warning": "Warning: ", "note": "Note: "}.get(severity, "")
    return f"{mark}{finding['rule']} {text}" if verbose else f"{mark}{text}"
