"""What proves the same storage, what proves another, and what proves nothing."""

import pytest

from lodom.core.rules.case import BackendFacts
from lodom.core.rules.storage import compare

SAME, ELSE = BackendFacts(ids=("naa.9",)), BackendFacts(ids=("naa.8",))
SEEN = BackendFacts(handshake=True)


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        ({}, {}, "unknown"),
        ({"ids": ("naa.1",)}, {"ids": ("naa.1",)}, "same"),
        ({"ids": ("naa.1", "eui.2")}, {"ids": ("eui.2",)}, "same"),
        ({"ids": ("naa.1",)}, {"ids": ("naa.2",)}, "other"),
        ({"ids": ("naa.1",)}, {"ids": ("uuid.1",)}, "unknown"),  # kinds that cannot be compared
        ({"ids": ("naa.1",)}, {}, "unknown"),
        ({"size": 1 << 30}, {"size": 2 << 30}, "other"),
        ({"size": 1 << 30}, {"size": 1 << 30}, "unknown"),  # equal sizes prove nothing
        ({"size": 1 << 30}, {}, "unknown"),
        ({"size": 1, "ids": ("naa.1",)}, {"size": 2, "ids": ("naa.1",)}, "other"),
        ({"file_system": "a"}, {"file_system": "b"}, "other"),
        ({"file_system": "a"}, {"file_system": "a"}, "unknown"),
        ({"file_system": "a"}, {}, "unknown"),
        ({"file_system": "a"}, {"file_system": "b", "handshake": True}, "same"),
        ({"handshake": True}, {}, "unknown"),  # only the target can have seen it
        ({"layers": (SAME, SEEN)}, {"layers": (SAME, SEEN)}, "unknown"),  # the top one counts too
        ({"ids": ("naa.1",), "layers": (SAME,)}, {"ids": ("naa.1",), "layers": (SAME,)}, "same"),
        ({"ids": ("naa.1",), "layers": (SAME,)}, {"ids": ("naa.1",)}, "other"),
        ({"handshake": True, "layers": (SAME,)}, {"handshake": True, "layers": (SEEN,)}, "same"),
        ({"handshake": True, "layers": (SAME,)}, {"handshake": True, "layers": (ELSE,)}, "other"),
    ],
)
def test_evidence(source, target, verdict):
    """DESIGN section 7, line by line."""
    evidence = compare(BackendFacts(**source), BackendFacts(**target))
    assert evidence.verdict == verdict
    assert evidence.why
