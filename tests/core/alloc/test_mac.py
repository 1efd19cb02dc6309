"""MAC addresses: ranges of the manual, normal form, host id."""

import pytest

from lodom.core.alloc import mac
from lodom.core.model.devices import Switch, Vnet
from lodom.core.model.domain import Constraints, Domain
from lodom.core.model.host import Machine
from lodom.core.model.inventory import Inventory


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("00:14:4f:f7:ff:ff", False),
        ("00:14:4f:f8:00:00", True),
        ("00:14:4F:FB:FF:FF", True),
        ("0:14:4f:fc:0:0", False),
    ],
)
def test_edges_of_the_automatic_range(text, inside):
    assert mac.automatic(text) is inside


def test_manual_range_is_the_upper_half():
    assert mac.form(mac.MANUAL[0]) == "00:14:4f:fc:00:00"
    assert mac.form(mac.MANUAL[-1]) == "00:14:4f:ff:ff:ff"


@pytest.mark.parametrize("text", ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "g:0:0:0:0:0", "123:0:0:0:0:0"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError):
        mac.parse(text)
    assert "octets" in mac.refusal(text)


def test_by_hand_only_outside_the_automatic_range():
    assert "allocated automatically" in mac.refusal("00:14:4f:f9:00:01")
    assert "group" in mac.refusal("01:14:4f:fa:0f:55")
    assert "null" in mac.refusal("0:0:0:0:0:0")
    assert mac.refusal("80:00:33:55:22:66") == ""


def test_choice_skips_what_is_used_or_out_of_range():
    candidates = ("00:14:4f:fc:00:01", "00:14:4F:F8:00:01", "0:14:4f:f8:0:2")
    assert mac.choose(candidates, {"0:14:4f:f8:0:1"}) == "00:14:4f:f8:00:02"
    assert mac.choose(candidates[:2], {"0:14:4f:f8:0:1"}) is None


def test_in_use_names_the_owner():
    vnet = Vnet("vnet0", "vsw0", "0:14:4f:fb:0:9", 0)
    inventory = Inventory(
        Machine("m", "i", "p", 1, (), (), 1),
        domains={"u": Domain("u", "d", "0:14:4f:f8:0:1", constraints=Constraints(vnets=(vnet,)))},
        vsw={"vsw0": Switch("vsw0", "primary", "00:14:4F:F8:00:05")},
    )
    assert mac.in_use(inventory) == {
        "00:14:4f:f8:00:01": "LDom d",
        "00:14:4f:fb:00:09": "vnet vnet0 of LDom d",
        "00:14:4f:f8:00:05": "vsw vsw0",
    }


def test_hostid_is_the_manuals():
    """…fa:ed:88 has host id 0x84faed88."""
    assert mac.hostid("00:14:4f:fa:ed:88") == 0x84FAED88
