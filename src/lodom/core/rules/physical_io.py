"""Rules on physical I/O: what is tied to this machine cannot leave it."""

from collections.abc import Iterator

from lodom.core.rules.case import Case
from lodom.core.rules.form import Found, found, rule


@rule("R23", side="source", states=("active", "bound"))
def direct_access(case: Case) -> Iterator[Found]:
    """A virtual device of the domain reaches a physical device directly.

    Why:
        The state of a physical device cannot be copied, and the target has another one.  Virtual
        devices that are merely backed by physical ones move well (R22).

    Remedy:
        Remove the device from the domain, or back it by a service (vds, vsw) instead.

    Example:
        A network device that hands a PCI function to the guest: refused.

    Sentence:
        Virtual devices with direct access to physical devices cannot be migrated.
    """
    for device in case.domain.direct:
        yield found(
            f"Device {device} of LDom {case.domain.name} has direct access to a physical device",
            device=device,
        )


@rule("R24", side="source")
def io_domain(case: Case) -> Iterator[Found]:
    """The domain is the control domain, an I/O domain or a service domain.

    Why:
        An I/O bus stays in its machine, and so do the guests that use a domain's services.  An
        inactive domain holds no bus: it may go.

    Remedy:
        Take the bus (ldm remove-io BUS DOMAIN, while it is stopped) or the service (ldm remove-vds,
        remove-vsw, remove-vcc) from the domain; the control domain cannot be migrated.

    Example:
        A domain that has bus pci_0: refused.

    Sentence:
        I/O domains cannot be migrated.
    """
    domain = case.domain
    if domain.control:
        yield found(f"LDom {domain.name} is the control domain", role="control")
        return
    name = domain.name
    stopped = f"ldm stop-domain {name}, " if case.kind == "active" else ""
    if case.kind != "inactive":
        for bus in domain.io:
            yield found(
                f"LDom {domain.name} is an I/O domain: it has bus {bus}",
                remedy=f"{stopped}ldm remove-io {bus} {name}",
                role="io",
                bus=bus,
            )
    for service in domain.services:
        yield found(
            f"LDom {domain.name} is a service domain: it provides {service}",
            role="service",
            service=service,
        )
