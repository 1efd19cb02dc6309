"""The Debian package: built from this tree, unpacked, its programs run from where it puts them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import ROOT

pytestmark = pytest.mark.long


def ran(*argv: object) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def package(wheels: Path) -> Path:
    """The package, built without a network."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    said = ran(ROOT / "packaging/deb.sh", "--wheels", wheels)
    found = re.search(r"in '(.*)'", said)
    assert found, said
    return Path(found[1])


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package, unpacked."""
    folder = tmp_path_factory.mktemp("deb")
    ran("dpkg-deb", "--extract", package, folder)
    yield folder
    shutil.rmtree(folder)


def test_it_has_all_that_the_installation_has(package: Path, tree: Path) -> None:
    for path in (
        "usr/bin/ldm", "usr/bin/ldmd", "usr/bin/ldm-setup", "etc/lodom/machine.toml",
        "etc/pam.d/lodom", "usr/lib/systemd/system/ldmd.service",
        "usr/lib/systemd/system/lodom-guests.service", "usr/share/man/man1/ldm.1.gz",
        "usr/share/bash-completion/completions/ldm", "usr/share/zsh/vendor-completions/_ldm",
    ):  # fmt: skip
        assert (tree / path).is_file(), path
    conffiles = ran("dpkg-deb", "--info", package, "conffiles").split()
    assert conffiles == ["/etc/lodom/machine.toml", "/etc/pam.d/lodom"]


def test_nothing_in_it_names_the_place_where_it_was_built(tree: Path) -> None:
    """Programs, units and compiled modules speak of /usr only."""
    assert (tree / "usr/bin/ldm").read_text().startswith("#!/usr/lib/lodom/bin/python3 -I\n")
    units = [p.read_text() for p in (tree / "usr/lib/systemd/system").iterdir()]
    assert all("@BIN@" not in text for text in units)
    built = re.compile(rb"/tmp/tmp\.|" + re.escape(str(ROOT).encode()))
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert not built.search(path.read_bytes()), path


def test_its_programs_run(tree: Path) -> None:
    """With the interpreter and the modules that are inside, and no others."""
    python = tree / "usr/lib/lodom/bin/python3"
    assert ran(python, "-I", "-m", "lodom.daemon.main", "--version").startswith("ldmd ")
    for program in ("ldm", "ldm-setup", "ldmd"):
        text = (tree / "usr/bin" / program).read_text()
        assert "sage" in ran(python, "-I", "-c", text, "--help")
    where = "import lodom, sys; print(lodom.__file__)"
    assert ran(python, "-I", "-c", where).startswith(str(tree))


def test_its_scripts_are_shell(package: Path, tmp_path: Path) -> None:
    ran("dpkg-deb", "--control", package, tmp_path)
    for name in ("postinst", "prerm", "postrm"):
        ran("sh", "-n", tmp_path / name)


@pytest.mark.parametrize("prefix", ["/usr/local", "/opt/lodom"])
def test_systemd_finds_the_units_of_any_prefix(prefix: str, wheels: Path, tmp_path: Path) -> None:
    """They are where it looks, name the programs of the prefix, and go with the installation."""
    words = ["--destdir", tmp_path, "--prefix", prefix]
    ran(ROOT / "install", *words, "--wheels", wheels)
    looked_at = [tmp_path / f"{top}/systemd/system" for top in ("etc", "usr/local/lib", "usr/lib")]
    (unit,) = [u for folder in looked_at if (u := folder / "ldmd.service").exists()]
    assert f"ExecStart={prefix}/bin/ldmd\n" in unit.read_text()
    ran(ROOT / "install", "--uninstall", *words)
    assert [p.name for p in tmp_path.rglob("*") if not p.is_dir()] == ["machine.toml"]
