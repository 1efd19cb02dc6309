"""The house is in order: small modules, told reasons, core modules tried, nothing left over."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_MAX = 500
FUNCTION_MAX = 60
LONGER = {
    "lodom/core/errors.py": 700,  # a catalogue: one class a code
    "lodom/core/migration/source.py": 540,  # one state machine, read as a whole
}
"""Known exceptions and how far they may go; one that is not needed any more fails."""

LEFTOVERS = re.compile(
    r"\b(?:TODO|FIXME|XXX|HACK)\b|^(?:<{7}|>{7}|={7})(?: |$)|\bbreakpoint\(|\bpdb\b"
    r"|\b(?:AI|LLM|GPT|Claude|Anthropic)\b"
)
PRIVATE = re.compile(r"(?<![\w./-])/(?:work|home)/[a-z]")


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def committed() -> list[Path]:
    """Text files under version control that we wrote."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [ROOT / word for word in done.stdout.split("\0") if word]
    return [p for p in found if p.is_file() and p.name not in ("LICENSE", Path(__file__).name)]


def test_modules_are_small() -> None:
    lengths = {name(p): len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES}
    limit = {n: LONGER.get(n, LINES_MAX) for n in lengths}
    assert {n: length for n, length in lengths.items() if length > limit[n]} == {}
    assert {n for n in LONGER if lengths.get(n, 0) <= LINES_MAX} == set()


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_are_short() -> None:
    """The docstring counts not: a rule's is its manual page."""
    for path in MODULES:
        for f in functions(tree(path)):
            body = f.body[1:] if ast.get_docstring(f) else f.body
            lines = (f.end_lineno or 0) - (body[0].lineno if body else f.lineno) + 1
            assert lines < FUNCTION_MAX, f"{name(path)}:{f.lineno} {f.name}"


def undocumented(node: ast.Module | ast.ClassDef, where: str) -> Iterator[str]:
    """Public names that say nothing; what overrides a documented method may be silent."""
    if ast.get_docstring(node) is None and node.body:
        yield where
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from undocumented(child, f"{where} {child.name}")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            overloaded = {ast.unparse(d) for d in child.decorator_list} & {"overload", "override"}
            silent = ast.get_docstring(child) is None and not overloaded
            if silent and not child.name.startswith("_"):
                yield f"{where} {child.name}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_public_names_are_told(path: Path) -> None:
    assert list(undocumented(tree(path), name(path))) == []


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


THROUGH = {
    "lodom.core.commands": "lodom.core.engine",
    "lodom.core.lifecycle": "lodom.core.engine",
    "lodom.core.migration": "lodom.core.engine",
    "lodom.core.model": "lodom.core.engine",
    "lodom.core.rules": "lodom.core.rules.catalogue",
}
"""Parts of a package that tests reach through its one door."""


def test_every_core_module_is_tried() -> None:
    used = {module for path in TESTS for module in imported(path)}
    core = [dotted(p) for p in MODULES if "core" in p.parts and p.read_text(encoding="utf-8")]
    for module in core:
        door = THROUGH.get(module.rpartition(".")[0], module)
        assert module in used or door in used, module


def test_nothing_is_left_over() -> None:
    for path in committed():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}: {line}"
            assert not LEFTOVERS.search(line), where
            assert not PRIVATE.search(line), where


def test_no_file_is_left_out_of_the_checks() -> None:
    """Scripts in tools and tests are linted like the package."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    linted = re.search(r"^PYTHON_FILES = (.*)$", makefile, re.M)
    assert linted
    folders = {p.relative_to(ROOT).parts[0] for p in committed() if p.suffix == ".py"}
    assert folders <= set(linted[1].split())


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_skips_say_why_and_nothing_is_mocked(path: Path) -> None:
    for call in (n for n in ast.walk(tree(path)) if isinstance(n, ast.Call)):
        called = ast.unparse(call.func)
        if called in ("pytest.skip", "pytest.mark.skip", "pytest.mark.skipif"):
            assert any(k.arg == "reason" for k in call.keywords) or (
                called == "pytest.skip" and call.args
            ), f"{path}:{call.lineno}"
    assert not {m for m in imported(path) if m.startswith(("unittest.mock", "mock"))}
