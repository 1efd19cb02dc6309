"""What two ldmds say to each other about a migration.  The words; the protocol is core.migration.

Every message names its migration (in the envelope) and is safe to receive twice, late or never.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """Base of all messages."""
