"""What a machine of another release, or a broken one, may answer to ours."""

import asyncio
from types import SimpleNamespace

import pytest
from peer_worlds import Recorder, world

from lodom.core.model.inventory import Ownership
from lodom.daemon.peers import Peers
from lodom.peer.trust import name_of


class Odd(Recorder):
    """Answers every question in the same way."""

    answer: object = None

    async def ask(self, sender, kind, body):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ({"u1": [7, "i2"]}, {"u1": Ownership("u1", 7, "i2")}),
        ({"u1": [7, "i2", "a word more"]}, {}),
        ({"u1": None}, {}),
        ({"u1": ["seven", "i2"]}, {}),
    ],
)
def test_an_answer_about_epochs_that_cannot_be_read_is_none(tmp_path, answer, heard):
    """ldmd asks before it starts anything: it must not end over it, at each start again."""

    async def run():
        async with world(tmp_path) as w:
            hooks = Odd()
            hooks.answer = answer
            w.hooks = hooks
            await w.restart_target()
            peers = Peers(
                client=w.client, driver=SimpleNamespace(settings=None), inventory=dict,
                post=print, default_port=w.server.port, bridges={},
            )  # fmt: skip
            return await peers.epochs(["u1"], [name_of(*w.at)])

    assert asyncio.run(run()) == heard
