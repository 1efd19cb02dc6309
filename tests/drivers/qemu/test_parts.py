"""Images, processes, users, the agent's protocol, the choice of what to run."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sides import SPEC

from lodom.core.effects import LaunchGuest
from lodom.core.errors import NotSupported, StepFailed
from lodom.core.model.guest import GuestDisk
from lodom.drivers.qemu import images, launch, probe, process
from lodom.drivers.qemu.agent import Agent, AgentRefused, AgentSilent
from lodom.drivers.qemu.settings import Settings
from lodom.host import disks

QCOW2 = b"QFI\xfb" + bytes(508)


def image(path: Path, content: bytes) -> GuestDisk:
    path.write_bytes(content)
    return GuestDisk("d", 0, str(path))


def test_a_raw_image_is_never_taken_for_qcow2(tmp_path):
    """A guest that writes a qcow2 header into its raw disk gains nothing."""
    assert images.inspect(image(tmp_path / "disk.img", QCOW2)).format == "raw"
    assert images.inspect(image(tmp_path / "disk.qcow2", QCOW2)).format == "qcow2"
    with pytest.raises(StepFailed, match="says qcow2"):
        images.inspect(image(tmp_path / "raw.qcow2", bytes(512)))


@pytest.mark.live
def test_a_device_is_qcow2_by_its_name_as_a_file_is(tmp_path: Path) -> None:
    """A guest that got the image itself as its disk would write over it."""
    file = image(tmp_path / "disk.img", QCOW2).backend
    done = subprocess.run(
        ["losetup", "--find", "--show", file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        named = tmp_path / "volume.qcow2"
        named.symlink_to(device)
        found = images.inspect(GuestDisk("d", 0, str(named)))
        assert (found.protocol["driver"], found.format) == ("host_device", "qcow2")
        assert disks.probe(str(named)).format == found.format
        assert images.inspect(GuestDisk("d", 0, device)).format == "raw"
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_back_ends_that_are_no_files(tmp_path):
    node = images.inspect(GuestDisk("d", 0, "nbd://host:1/a%20b")).protocol
    server = {"type": "inet", "host": "host", "port": "1"}
    assert node == {"driver": "nbd", "server": server, "export": "a b"}
    node = images.inspect(GuestDisk("d", 0, "nbd+unix:///e?socket=/s")).protocol
    assert node["server"] == {"type": "unix", "path": "/s"}
    with pytest.raises(NotSupported):
        images.inspect(GuestDisk("d", 0, "http://host/image"))
    for odd in ("nbd://host:port/e", "nbd://host:99999/e", "nbd://[::1/e"):
        with pytest.raises(NotSupported, match="its form is nbd://"):
            images.inspect(GuestDisk("d", 0, odd))
    with pytest.raises(StepFailed, match="No such file"):
        images.inspect(GuestDisk("d", 0, str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("backend", "node"),
    [
        ("rbd:pool/image", {"pool": "pool", "image": "image"}),
        (
            "rbd:p/i@snap:id=lodom:conf=/etc/ceph/x.conf",
            {"pool": "p", "image": "i", "snapshot": "snap", "user": "lodom",
             "conf": "/etc/ceph/x.conf"},
        ),
    ],
)  # fmt: skip
def test_rbd_images(backend, node):
    found = images.inspect(GuestDisk("d", 0, backend))
    assert (found.protocol, found.format, found.direct) == ({"driver": "rbd", **node}, "raw", True)


@pytest.mark.parametrize("backend", ["rbd:image", "rbd:p/i:key=secret", "rbd:p/i:id=", "rbd:/i"])
def test_what_is_no_rbd_image(backend):
    with pytest.raises(NotSupported, match="rbd:POOL/IMAGE"):
        images.inspect(GuestDisk("d", 0, backend))


def test_a_guest_keeps_its_user_unless_taken():
    users = range(100, 103)
    first = launch.user_for("uuid", users, ())
    assert launch.user_for("uuid", users, ()) == first
    assert launch.user_for("uuid", users, {first}) in set(users) - {first}
    assert launch.user_for("uuid", None, ()) is None
    with pytest.raises(StepFailed, match="all of the range"):
        launch.user_for("uuid", users, set(users))


class Noting(launch.Launcher):
    """Notes each guest's user; starts nothing."""

    def __init__(self, folder, users):
        self.given = []
        super().__init__(
            run_dir=folder, log_dir=folder, backing=None, open_tap=None, close_taps=self._close,
            settings=Settings(users=users), post=None,
        )  # fmt: skip

    async def _close(self, uuid):
        pass

    async def _spawn(self, effect, folder, user):
        self.given.append(user)
        await asyncio.sleep(0)  # the others' turn
        raise StepFailed(what="Starting", reason="enough is known")


def test_guests_that_start_side_by_side_have_users_of_their_own(tmp_path):
    """None of their processes is there yet when the others choose."""
    users = range(100, 103)
    same = [u for u in map(str, range(99)) if launch.user_for(u, users, ()) == users[0]][:3]
    orders = [LaunchGuest(replace(SPEC, uuid=uuid)) for uuid in same]

    async def run():
        launcher = Noting(tmp_path, users)
        for _ in range(2):  # what failed gives its user back
            launches = [launcher.launch(order, ()) for order in orders]
            await asyncio.gather(*launches, return_exceptions=True)
        return launcher.given

    assert sorted(asyncio.run(run())) == sorted([*users, *users])


def test_a_process_is_watched_to_its_end(tmp_path):
    """Started in a session of its own, killed and reaped through the pidfd."""

    async def story() -> None:
        child = process.spawn(["sleep", "1000"], log=tmp_path / "log", pass_fds=())
        assert os.getsid(child.pid) == child.pid
        assert child.started == process.start_time(child.pid)
        assert not await child.wait_gone(0.01)
        child.kill()
        assert await child.wait_gone(10)
        child.kill()  # no harm
        assert not Path(f"/proc/{child.pid}").exists()
        with pytest.raises(ProcessLookupError):
            process.Process(child.pid)

    asyncio.run(story())


def test_versioned_machine_types_only():
    machines = [
        {"name": "q35"},
        {"name": "pc-q35-10.0"},
        {"name": "pc-q35-8.2", "deprecated": False},
        {"name": "pc-q35-2.4", "deprecated": True},
        {"name": "pc-i440fx-8.2"},
    ]
    assert probe.versioned(machines) == ("pc-q35-8.2", "pc-q35-10.0")


def test_the_best_model_without_a_gap():
    def model(name: str, *missing: str) -> dict[str, object]:
        return {"name": name, "unavailable-features": list(missing)}

    assert probe.choose_model([model("EPYC-v1", "sha-ni"), model("Nehalem-v1")]) == "Nehalem-v1"
    assert probe.choose_model([]) == "qemu64-v1"
    props = {"sse2": True, "avx": False, "sse4_1": True, "family": 6}
    assert probe.features(props) == ("sse2",)


# -- the agent ----------------------------------------------------------------------------------

Answer = Callable[[dict[str, object]], bytes]


def ask(folder: Path, answer: Answer, talk: Callable[[Agent], object]) -> None:
    """Run *talk* against an agent that gives *answer* to each question after the first sync."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            question = json.loads(line.lstrip(b"\xff"))
            if question["execute"] == "guest-sync-delimited":
                # Old answers, the mark, then ours: what a guest that was interrupted sends.
                token = question["arguments"]["id"]
                writer.write(b'{"return": "old"}\n\xff{"return": 1}\n')
                writer.write(b"\xff" + json.dumps({"return": token}).encode() + b"\n")
            else:
                writer.write(answer(question))
            await writer.drain()

    async def story() -> None:
        server = await asyncio.start_unix_server(serve, folder / "agent")
        agent = Agent(folder / "agent")
        try:
            await talk(agent)
        finally:
            agent.close()
            server.close()

    asyncio.run(story())


def test_the_agent_is_asked_one_by_one(tmp_path):
    """Questions at the same time do not mix; old answers are dropped."""

    def echo(question: dict[str, object]) -> bytes:
        return json.dumps({"return": question["arguments"]["n"]}).encode() + b"\n"

    async def talk(agent: Agent) -> None:
        answers = await asyncio.gather(*(agent.ask("x", {"n": n}) for n in range(5)))
        assert answers == list(range(5))

    ask(tmp_path, echo, talk)


def test_a_late_answer_is_not_the_next_one(tmp_path):
    """After a deadline the next question begins anew with a sync."""
    answers = iter([b"", b'{"return": "second"}\n'])

    async def talk(agent: Agent) -> None:
        with pytest.raises(AgentSilent):
            await agent.ask("first", deadline=0.1)
        assert await agent.ask("second") == "second"

    ask(tmp_path, lambda _: next(answers), talk)


def test_the_agent_says_no(tmp_path):
    error = b'{"error": {"class": "CommandNotFound", "desc": "guest-exec is disabled"}}\n'

    async def talk(agent: Agent) -> None:
        with pytest.raises(AgentRefused, match="guest-exec is disabled"):
            await agent.run(["/bin/sh"])
        assert await agent.ping()

    ask(tmp_path, lambda _: error, talk)


NONSENSE = (
    b"[]\n",
    b"{\n",
    b'{"return": [{"online": 1}]}\n',
    b'{"return": [{"logical-id": 1e999, "online": true}]}\n',
    b"[" * 50_000 + b"\n",
)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_from_the_guest_is_no_crash(tmp_path, nonsense):
    async def talk(agent: Agent) -> None:
        with pytest.raises((AgentSilent, AgentRefused)):
            await agent.cpus()

    ask(tmp_path, lambda _: nonsense, talk)


def test_output_that_is_no_base64_is_no_crash(tmp_path):
    state = {"return": {"pid": 1, "exited": True, "exitcode": 0, "out-data": "\u00e9"}}

    async def talk(agent: Agent) -> None:
        with pytest.raises(AgentRefused, match="makes no sense"):
            await agent.run(["/bin/sh"])

    ask(tmp_path, lambda _: json.dumps(state).encode() + b"\n", talk)


def test_no_socket_no_agent(tmp_path):
    async def story() -> None:
        assert not await Agent(tmp_path / "none").ping()

    asyncio.run(story())
