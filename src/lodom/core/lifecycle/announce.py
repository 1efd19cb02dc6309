"""The networks learn where a guest is, also if its process did not take the order at once.

Until a frame of the guest's MACs has come by, switches send what is for it to where it was.

Source: HANDOVER, step 6; QMP ``announce-self``.
"""

from lodom.core import effects as do
from lodom.core.lifecycle.domain import After
from lodom.core.model.domain import Domain, State
from lodom.core.model.inventory import Inventory

AGAIN_S = 5.0


def failed(inventory: Inventory, d: Domain) -> After:
    """Try later; a domain that does not run any more has nothing to announce."""
    later = do.SetTimer(f"announce:{d.uuid}", AGAIN_S)
    return inventory, ((later,) if d.state is State.ACTIVE else ())


def again(inventory: Inventory, d: Domain) -> After:
    """While a migration holds the domain another machine may have it: not before that has ended."""
    if d.migration or d.state is not State.ACTIVE:
        return failed(inventory, d)
    return inventory, (do.AnnounceGuest(d.uuid),)
