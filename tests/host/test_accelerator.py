"""The accelerator's verdict: kept for a boot, and reached by really booting."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lodom.core.errors import NotSupported
from lodom.host import accelerator, boot, probe
from lodom.host.accelerator import Verdict


def verdict(state: Path, wanted: str = "auto", qemu: str = "true") -> Verdict:
    return asyncio.run(accelerator.verdict(state, wanted, qemu=qemu))


def keep(state: Path, boot_id: str) -> None:
    program = shutil.which("true")
    key = [boot_id, program, os.stat(program).st_mtime_ns]
    kept = {"key": key, "verdict": {"accelerator": "kvm", "reason": "kept"}}
    (state / "accelerator.json").write_text(json.dumps(kept))


def test_the_verdict_of_this_boot_is_kept(tmp_path):
    keep(tmp_path, boot.boot_id())
    assert verdict(tmp_path) == Verdict("kvm", "kept")


def test_a_value_of_machine_toml_wins(tmp_path):
    keep(tmp_path, boot.boot_id())
    assert verdict(tmp_path, "tcg") == Verdict("tcg", "set in machine.toml")


def test_without_qemu_no_domain_can_run(tmp_path):
    with pytest.raises(NotSupported, match="no-such-program is not installed"):
        verdict(tmp_path, qemu="no-such-program")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"key": 1}'])
def test_a_broken_record_is_made_anew(tmp_path, text):
    (tmp_path / "accelerator.json").write_text(text)
    if missing := probe.kvm_device():
        assert verdict(tmp_path) == Verdict("tcg", missing)
    else:
        with pytest.raises(NotSupported, match="without a word"):
            verdict(tmp_path)


def test_the_sector_is_what_its_source_says(tmp_path):
    if not shutil.which("as"):
        pytest.skip("there is no assembler (binutils) here")
    source = Path(accelerator.__file__).with_name("sector.s")
    made, image = tmp_path / "sector.o", tmp_path / "sector.bin"
    subprocess.run(["as", "-o", made, source], check=True)
    flat = ["ld", "--oformat", "binary", "-Ttext", "0x7c00", "-e", "0x7c00"]
    subprocess.run([*flat, "-o", image, made], check=True)
    assert image.read_bytes() == accelerator._SECTOR
    assert len(accelerator._SECTOR) <= 510


@pytest.mark.live
def test_the_probe_guest_comes_up_under_emulation():
    run = asyncio.run(accelerator.boot_guest(accelerator.QEMU, "tcg", 60))
    assert run.failure == ""
    assert run.seconds is not None


@pytest.mark.live
def test_a_guest_that_is_too_slow_is_no_sign_of_life():
    run = asyncio.run(accelerator.boot_guest(accelerator.QEMU, "tcg", 0.001))
    assert run == accelerator.Run(None, "no sign of life in 0.0 s")


@pytest.mark.live
def test_qemus_own_words_are_the_reason():
    run = asyncio.run(accelerator.boot_guest(accelerator.QEMU, "nonsense", 60))
    assert run.seconds is None
    assert "nonsense" in run.failure


@pytest.mark.live
def test_this_hosts_verdict_has_a_reason_and_is_kept(tmp_path):
    first = verdict(tmp_path, qemu=accelerator.QEMU)
    print(f"accelerator: {first.accelerator} ({first.reason})")
    assert first.accelerator in ("kvm", "tcg")
    assert first.reason
    kept = json.loads((tmp_path / "accelerator.json").read_text())
    assert kept["verdict"] == {"accelerator": first.accelerator, "reason": first.reason}
