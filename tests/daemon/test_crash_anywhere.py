"""Each command, with a crash after its commit and before each of its effects: all ends well.

On the simulation's machines: the real engine, a journal that holds what was committed, the model of
processes.  The daemon comes back, alone or after a loss of power, the world is left alone, and then
all is looked at that must hold in the end: each domain once, nothing locked, reserved or soiled.
"""

import pytest
from every_command import EVERY

from lodom.core.commands.form import COMMANDS
from lodom.core.errors import LodomError
from lodom.core.migration.conduct import ORDERS
from lodom.sim.chaos import PEACE_S, estate
from lodom.sim.safety import check_end
from lodom.sim.world import World


def prepared(verb):
    """Two machines at rest, ready for the command, and the one that gets it."""
    world = World(configured=estate()[:2])
    for host in world.hosts.values():
        host.up = False
        host.restart()
    world.run(10.0)
    host = world.hosts["a"]
    for before, arguments in EVERY[verb][0]:
        host.ldm(before, **arguments)
    world.run(10.0)
    return world, host


def given(verb, dies_in, end="crash"):
    """The command with a crash at that place; whether there was such a place."""
    world, host = prepared(verb)

    def crashed(h):
        if end == "power":
            for uuid in list(h.hypervisor.guests):
                h.hypervisor.kill(uuid, quiet=True)
        world.later(2.0, h.restart)

    world.crashed = crashed
    host.dies_in, life = dies_in, host.life
    request = host.order(verb, **EVERY[verb][1])
    world.run(PEACE_S)
    check_end(world)
    return host.life > life, host.answers.get(request)


def test_every_command_is_there():
    assert set(EVERY) == {*COMMANDS, *ORDERS}


@pytest.mark.parametrize("end", ["crash", "power"])
@pytest.mark.parametrize("verb", EVERY)
def test_a_command_survives_an_end_anywhere(verb, end):
    died, answer = given(verb, 0)
    assert not died
    assert not isinstance(answer, LodomError), answer
    assert answer is not None
    place = 1
    while given(verb, place, end)[0]:
        place += 1
    assert place > 1 or verb == "recover-domain"
