"""Network namespaces of tests; what a killed run left is gone with the next one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pyroute2 import netns


@contextmanager
def spaces(*names: str) -> Iterator[None]:
    """New namespaces, removed at the end."""
    with ExitStack() as made:
        for name in names:
            if name in netns.listnetns():
                netns.remove(name)
            netns.create(name)
            made.callback(netns.remove, name)
        yield


@contextmanager
def inside(name: str) -> Iterator[None]:
    """The test's thread is in the namespace."""
    netns.pushns(name)
    try:
        yield
    finally:
        netns.popns()
