"""Who may run a domain: the two questions that the ownership records answer (HANDOVER, Names)."""

from collections.abc import Mapping

from lodom.core.model.inventory import Ownership


def may_run(ownership: Mapping[str, Ownership], uuid: str, epoch: int, instance: str) -> bool:
    """This machine is the owner, at *epoch*, which is the highest that it has seen.

    Asked of the journal as it stands on disk, by the one function that sets a guest running.
    """
    record = ownership.get(uuid)
    return record is not None and record.epoch == epoch and record.owner == instance


def stale(ownership: Mapping[str, Ownership], uuid: str, epoch: int, source: str) -> str:
    """Why a source at *epoch* may not give the domain to this machine; empty when it may.

    A record here at a higher epoch, or another owner at the same one, means a stale source or a
    restored backup.
    """
    record = ownership.get(uuid)
    if record is None or record.epoch < epoch:
        return ""
    if record.epoch == epoch and record.owner == source:
        return ""
    return f"this machine knows owner {record.owner} at epoch {record.epoch}, not below {epoch}"
