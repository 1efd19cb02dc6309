"""The explorer visits what it says, and a story leads to each of its states."""

import subprocess
import sys

from lodom.sim.explore import SWEEPS, explore
from lodom.sim.handover import Budget, first


def test_without_faults_there_is_one_end():
    result = explore(first(True, Budget()))
    assert (result.fault, result.ends) == ("", 1)


def test_two_crashes_at_any_two_moments_break_nothing():
    result = explore(first(True, SWEEPS["crashes"]))
    assert result.fault == ""
    assert result.states > 20_000


def test_the_network_may_lose_repeat_and_reorder():
    assert explore(first(False, SWEEPS["crash and network"])).fault == ""


def test_the_number_of_states_does_not_depend_on_the_hash_seed():
    code = (
        "from lodom.sim.explore import *; from lodom.sim.handover import *; "
        "print(explore(first(True, Budget(crash=1))))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(told) == 1
