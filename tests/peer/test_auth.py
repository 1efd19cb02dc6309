"""Users, passwords, roles; and how slow guessing is."""

import asyncio
import os
import pwd
import time

import pytest
from peer_worlds import CHEAP

from lodom.core.errors import InvalidValue, StepFailed
from lodom.peer.auth import READ, WRITE, Authenticator, Pam, Roles, Throttle, UsersFile, groups_of

BOTH = frozenset((READ, WRITE))


@pytest.fixture
def users(tmp_path):
    made = UsersFile(tmp_path / "users", CHEAP)
    made.add("admin", "s3cret", frozenset((WRITE,)))
    made.add("viewer", "look", frozenset((READ,)))
    return made


def test_the_file_knows_users_and_their_roles(users, tmp_path):
    """``write`` includes ``read``; the file is closed to others and holds no password."""
    assert users.check("admin", "s3cret") == BOTH
    assert users.check("viewer", "look") == {READ}
    assert users.check("viewer", "s3cret") is None
    assert users.check("nobody", "s3cret") is None
    assert (tmp_path / "users").stat().st_mode & 0o777 == 0o600
    text = (tmp_path / "users").read_text()
    assert "s3cret" not in text
    assert "$argon2id$" in text


def test_a_password_can_be_changed(users):
    """Adding a user again replaces password and roles, and leaves the others."""
    users.add("viewer", "new", BOTH)
    assert users.check("viewer", "look") is None
    assert users.check("viewer", "new") == BOTH
    assert users.check("admin", "s3cret") == BOTH


@pytest.mark.parametrize("name", ["", "a:b", "a\nroot:x:write"])
def test_a_name_cannot_smuggle_a_line(users, name):
    """Separators are refused in names."""
    with pytest.raises(InvalidValue):
        users.add(name, "x", BOTH)


def test_a_file_open_to_others_is_not_used(users, tmp_path):
    """The reason names the file and the mode it must have."""
    os.chmod(tmp_path / "users", 0o640)
    with pytest.raises(StepFailed, match="must be 0600"):
        users.check("admin", "s3cret")


def test_damaged_lines_let_nobody_in(tmp_path):
    """A line without a usable hash is no user."""
    (tmp_path / "users").touch(0o600)
    (tmp_path / "users").write_text("# note\na:b\nadmin:plain:write\nempty::write\n")
    users = UsersFile(tmp_path / "users", CHEAP)
    assert users.check("admin", "plain") is None
    assert users.check("empty", "") is None


def test_roles_by_user_and_group():
    """From ``[auth]``; root needs no entry."""
    roles = Roles(
        read_users=frozenset(("eve",)),
        read_groups=frozenset(("watch",)),
        write_users=frozenset(("adam",)),
        write_groups=frozenset(("wheel",)),
    )
    assert roles.of("root") == BOTH
    assert roles.of("adam") == BOTH
    assert roles.of("someone", frozenset(("wheel", "watch"))) == BOTH
    assert roles.of("eve") == {READ}
    assert roles.of("someone", frozenset(("watch",))) == {READ}
    assert roles.of("someone") == frozenset()


def test_groups_come_from_the_system():
    """Names, primary group included; nothing for an unknown user."""
    assert "root" in groups_of("root")
    assert groups_of("no-such-user-here") == frozenset()


def test_pam_refuses_the_wrong_password():
    """Through the system's real PAM; a service without a file of its own falls to ``other``."""
    assert Pam(Roles()).check(pwd.getpwuid(os.getuid()).pw_name, "certainly wrong") is None
    assert Pam(Roles()).check("no-such-user-here", "x") is None


def test_guessing_gets_slower_and_success_forgives(users):
    """Each failure doubles the wait up to the bound; another address does not wait."""

    async def run():
        auth = Authenticator(users, Throttle(first=0.05, most=0.1))

        async def timed(password, address="a"):
            begin = time.monotonic()
            roles = await auth.login("admin", password, address)
            return roles, time.monotonic() - begin

        for least in (0.0, 0.05, 0.1, 0.1):
            roles, took = await timed("wrong")
            assert roles is None
            assert took >= least
        roles, took = await timed("s3cret")
        assert roles == BOTH
        assert took >= 0.1
        assert auth._throttle._failures == {}

    asyncio.run(run())


def test_a_flood_of_attempts_is_refused_unseen(users, caplog):
    """At most three attempts of one user and address are in work; the right one too is refused."""

    async def run():
        auth = Authenticator(users, Throttle(first=0.01, most=0.01, queue=3))
        return await asyncio.gather(*(auth.login("admin", "s3cret", "a") for _ in range(10)))

    results = asyncio.run(run())
    assert results.count(BOTH) == 3
    assert results.count(None) == 7
    assert caplog.text.count("refused unseen") == 7


def test_memory_of_failures_is_bounded():
    """A crowd of names cannot fill the memory."""

    async def run():
        throttle = Throttle(size=10)
        for number in range(50):
            async with throttle.attempt(f"u{number}", "a"):
                throttle.failed(f"u{number}", "a")
        return len(throttle._failures)

    assert asyncio.run(run()) == 10
