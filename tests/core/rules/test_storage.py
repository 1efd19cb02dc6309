"""What proves the same storage, what proves another, and what proves nothing."""

import pytest

from lodom.core.rules.case import BackendFacts
from lodom.core.rules.storage import compare


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        ({}, {}, "unknown"),
        ({"ids": ("wwn:1",)}, {"ids": ("wwn:1",)}, "same"),
        ({"ids": ("wwn:1", "vpd:2")}, {"ids": ("vpd:2",)}, "same"),
        ({"ids": ("wwn:1",)}, {"ids": ("wwn:2",)}, "other"),
        ({"ids": ("wwn:1",)}, {"ids": ("nvme:1",)}, "unknown"),  # kinds that cannot be compared
        ({"ids": ("wwn:1",)}, {}, "unknown"),
        ({"size": 1 << 30}, {"size": 2 << 30}, "other"),
        ({"size": 1 << 30}, {"size": 1 << 30}, "unknown"),  # equal sizes prove nothing
        ({"size": 1 << 30}, {}, "unknown"),
        ({"size": 1, "ids": ("wwn:1",)}, {"size": 2, "ids": ("wwn:1",)}, "other"),
        ({"file_system": "a"}, {"file_system": "b"}, "other"),
        ({"file_system": "a"}, {"file_system": "a"}, "unknown"),
        ({"file_system": "a"}, {}, "unknown"),
        ({"file_system": "a"}, {"file_system": "b", "handshake": True}, "same"),
        ({"handshake": True}, {}, "unknown"),  # only the target can have seen it
    ],
)
def test_evidence(source, target, verdict):
    """DESIGN section 7, line by line."""
    evidence = compare(BackendFacts(**source), BackendFacts(**target))
    assert evidence.verdict == verdict
    assert evidence.why
