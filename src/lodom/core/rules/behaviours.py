"""Rules that Lodom keeps by what it does, not by a check: their pages, and where the deed is."""

from inspect import cleandoc
from typing import Final

from lodom.core.rules.form import RELEASES, Behaviour


def _page(line: str, *, why: str, remedy: str, example: str, sentence: str) -> str:
    return cleandoc(
        f"{line}\n\nWhy:\n    {why}\n\nRemedy:\n    {remedy}\n\n"
        f"Example:\n    {example}\n\nSentence:\n    {sentence}"
    )


_NONE = "None is needed."

BEHAVIOURS: Final[tuple[Behaviour, ...]] = (
    Behaviour(
        "R01",
        "lodom.core.rules.form:Rule.judge",
        _page(
            "An active domain is judged by conditions on the domain, its machine and the target.",
            why="A running guest depends on more than a bound or an inactive domain; each rule "
            "says in which states it holds.",
            remedy="A domain that may not move while it runs can often move bound or inactive.",
            example="R03 speaks for active domains only.",
            sentence="Migration of an active domain has requirements and restrictions on the "
            "source domain, the source machine and the target machine.",
        ),
    ),
    Behaviour(
        "R06",
        "lodom.core.alloc.strands:choose_for_migration",
        _page(
            "What is left of the migrated domain's last core is held until the domain reboots.",
            why="The domain was given whole cores; nobody may share them before its guest has "
            "looked at its CPUs anew.",
            remedy="Reboot the domain: the strands become free.",
            example="Six strands on cores of four: two strands are nobody's until the reboot.",
            sentence="Extra strands of a core that is not filled are unavailable to any domain "
            "until the migrated domain is rebooted.",
        ),
        releases=("1.2",),
    ),
    Behaviour(
        "R07",
        "lodom.core.commands.resources:vcpu",
        _page(
            "CPU DR is off for a migrated domain.",
            why="add-vcpu, set-vcpu and remove-vcpu by an administrator are refused.  The shrink "
            "of a further migration is not: else the domain could not move again.",
            remedy="Reboot the domain.",
            example="ldm set-vcpu 4 ldg1 right after ldg1 has arrived: refused.",
            sentence="After a migration, CPU dynamic reconfiguration is disabled for the target "
            "domain until it has been rebooted.",
        ),
        releases=("1.2",),
    ),
    Behaviour(
        "R08",
        "lodom.core.lifecycle.domain:launch",
        _page(
            "A reboot gives CPU DR back to a migrated domain and frees the strands held for it.",
            why="The process is stopped and started anew with the CPUs that the domain has.",
            remedy=_NONE,
            example="ldg1 arrives, reboots, and ldm set-vcpu 4 ldg1 works.",
            sentence="Once a reboot has occurred, CPU DR becomes available for the domain.",
        ),
        releases=("1.2",),
    ),
    Behaviour(
        "R10",
        "lodom.core.migration.source:step",
        _page(
            "A CPU removal that the guest refuses ends the migration; its CPUs are put back.",
            why="The dry run predicts what it can (R11); the guest has the last word when the "
            "domain is shrunk.",
            remedy="Mend what the guest names, and migrate again.",
            example="A process binds itself to CPU 3 after the check: the migration fails, the "
            "domain runs on with all its CPUs.",
            sentence="Conditions in the guest that make a CPU DR removal fail also make the "
            "migration fail.",
        ),
        releases=("1.2",),
    ),
    Behaviour(
        "R13",
        "lodom.core.alloc.memory:place",
        _page(
            "The target gets as many blocks as the source has, each of the same size.",
            why="Blocks are neither split nor merged, so the guest's view of its memory stays.",
            remedy="If a block finds no range, see R18.",
            example="Blocks of 1G and 512M arrive as 1G and 512M.",
            sentence="It is possible to create the same number of memory blocks of identical size.",
        ),
    ),
    Behaviour(
        "R14",
        "lodom.core.alloc.memory:place",
        _page(
            "Physical addresses may change in a migration.",
            why="The guest knows real addresses only.",
            remedy=_NONE,
            example="A block at PA 0x208000000 arrives at PA 0x108000000.",
            sentence="Physical addresses of the memory blocks need not match.",
        ),
    ),
    Behaviour(
        "R15",
        "lodom.core.alloc.memory:place",
        _page(
            "Real addresses stay the same in a migration.",
            why="The guest's page tables are full of them.",
            remedy=_NONE,
            example="A block at RA 0x8000000 arrives at RA 0x8000000.",
            sentence="The same real addresses are maintained across the migration.",
        ),
    ),
    Behaviour(
        "R16",
        "lodom.core.rules.memory:memory_short",
        _page(
            "Too little memory (R12) and memory badly laid out (R18) are told apart.",
            why="The cures differ: free some memory, or free the right memory.",
            remedy="See R12 and R18.",
            example="2G needed, 1G free: R12.  2G needed, twice 1G free: R18.",
            sentence="The target has enough free memory; the demand is made twice, once beside "
            "that on the layout.",
        ),
    ),
    Behaviour(
        "R19",
        "lodom.core.alloc.regions:free_ranges",
        _page(
            "Free memory is listed by physical address, neighbours as one range.",
            why="ldm list-devices memory shows what R18 has to work with.",
            remedy=_NONE,
            example="0x108000000 1G and 0x188000000 1G: two ranges with a hole of 1G between.",
            sentence="The example's target has two Gbytes free in two blocks.",
        ),
    ),
    Behaviour(
        "R20",
        "lodom.core.model.domain:Block",
        _page(
            "A domain's memory is listed as blocks with real address, physical address and size.",
            why="Each block has to find a range of its own on the target.",
            remedy=_NONE,
            example="RA 0x8000000, PA 0x208000000, size 2G.",
            sentence="The example's source domain has two Gbytes in a single block.",
        ),
    ),
    Behaviour(
        "R21",
        "lodom.core.errors:MigrationRefused",
        _page(
            "A failed migration prints its causes, then one line with the verdict.",
            why="Scripts read the last line, people the ones before it.",
            remedy=_NONE,
            example="Unable to bind 2G memory region at real address 0x8000000, then Domain "
            "Migration of LDom ldg-src failed.",
            sentence="The example shows prompt, cause and verdict in this order.",
        ),
    ),
    Behaviour(
        "R22",
        "lodom.core.rules.physical_io:direct_access",
        _page(
            "Virtual devices that are backed by physical ones can be migrated.",
            why="The service in between hides the physical device; only direct access bars (R23).",
            remedy=_NONE,
            example="A virtual disk on a LUN, a virtual network on a switch with an uplink.",
            sentence="Virtual devices that are backed by physical devices can be migrated.",
        ),
    ),
    Behaviour(
        "R29",
        "lodom.core.rules.disk:storage_overwritten",
        _page(
            "After a forced migration onto other storage the domain is stopped, mended, started.",
            why="Until it is stopped the domain shows that its storage differs.",
            remedy="ldm stop-domain, another volume (ldm set-vdisk volume=VOLUME DISK DOMAIN), ldm "
            "start-domain.",
            example="The boot disk was another LUN: export the right one, start again.",
            sentence="The domain has to be stopped, the configuration corrected, and the domain "
            "restarted.",
        ),
    ),
    Behaviour(
        "R30",
        "lodom.core.migration.conduct:admit",
        _page(
            "A domain that runs on other storage is marked until it is stopped.",
            why="Its memory and its disks no longer belong together.",
            remedy="See R29.",
            example="ldm list -l shows that the storage differs.",
            sentence="Otherwise the domain could be left in an inconsistent state.",
        ),
    ),
    Behaviour(
        "R32",
        "lodom.core.rules.network:switch_missing",
        _page(
            "A device on switch-y needs a domain on the target that provides switch-y.",
            why="It is the example of R31: any domain may provide the switch.",
            remedy="On the target: ldm add-vsw switch-y primary.",
            example="vnet0 on switch-y; the target has switch-y in primary: moved.",
            sentence="If vnet0 is attached to switch-y, a domain on the target provides a switch "
            "named switch-y.",
        ),
    ),
    Behaviour(
        "R37",
        "lodom.core.rules.console:group_taken",
        _page(
            "The console group of a migrated domain is the name it has on the target.",
            why="That is the default group of any domain; R39 checks that it is free.",
            remedy=_NONE,
            example="migrate-domain ldg1 host2:web1: group web1.",
            sentence="The console is created with the target domain name as the console group.",
        ),
    ),
    Behaviour(
        "R38",
        "lodom.core.alloc.ports:first_vcc",
        _page(
            "The console uses a free port of the first concentrator in the control domain.",
            why="So R35 looks at that concentrator and at no other.",
            remedy=_NONE,
            example="primary-vcc0 with 5000-5100, 5000 taken: port 5001.",
            sentence="Any available port on the first vcc device in the control domain is used.",
        ),
    ),
    Behaviour(
        "R40",
        "lodom.core.rules.network:hybrid_not_fulfilled",
        _page(
            "A domain that uses NIU hybrid I/O can be migrated.",
            why="The virtual device works without the hardware behind it.",
            remedy=_NONE,
            example="vnet0 with mode=hybrid: moved.",
            sentence="A domain using NIU hybrid I/O resources can be migrated.",
        ),
    ),
    Behaviour(
        "R41",
        "lodom.core.rules.network:hybrid_not_fulfilled",
        _page(
            "A constraint for NIU hybrid I/O is a wish, not a demand.",
            why="It never blocks a bind or a migration.",
            remedy=_NONE,
            example="mode=hybrid on a machine without NIU: a plain device.",
            sentence="A constraint for NIU hybrid I/O is not a hard requirement of a domain.",
        ),
    ),
    Behaviour(
        "R44",
        "lodom.core.rules.crypto:crypto_and_several_strands",
        _page(
            "The attempt that R43 describes fails; it is a blocker, not a warning.",
            why="The domain could not be shrunk to one strand.",
            remedy="See R43.",
            example="migrate-domain with a unit and two VCPUs: refused before anything moves.",
            sentence="Attempts to migrate such a domain fail.",
        ),
        releases=("1.2",),
    ),
    Behaviour(
        "R46",
        "lodom.core.migration.guard:refuse_while_migrating",
        _page(
            "A delayed reconfiguration cannot be begun while a migration is in progress.",
            why="The machine's description has to stand still.",
            remedy="Wait until the migration ends (ldm list -o status).",
            example="ldm add-vsw on primary during a migration: refused.",
            sentence="Delayed reconfiguration operations are blocked while a migration is in "
            "progress.",
        ),
    ),
    Behaviour(
        "R47",
        "lodom.core.migration.guard:refuse_while_migrating",
        _page(
            "What could change the description of the domain that moves is refused.",
            why="Source and target work from one and the same frozen description.",
            remedy="Wait until the migration ends, or cancel it.",
            example="ldm set-vdisk on the moving domain: refused on both machines.",
            sentence="While a migration is in progress, any operation that could modify the "
            "machine description of the migrated domain is blocked.",
        ),
    ),
    Behaviour(
        "R48",
        "lodom.core.migration.guard:refuse_while_migrating",
        _page(
            "All operations on the moving domain itself are refused; lists and cancel are not.",
            why="Looking changes nothing, and cancelling is the way out.",
            remedy="ldm cancel-operation migration DOMAIN on the source.",
            example="ldm stop-domain on the moving domain: refused.",
            sentence="This includes all operations on the domain itself.",
        ),
    ),
    Behaviour(
        "R49",
        "lodom.core.migration.guard:refuse_while_migrating",
        _page(
            "Bind, stop and the like are refused on all domains of a machine that migrates.",
            why="They would take or give the very resources that the migration counts on.  A "
            "second migration is one of them (L07).",
            remedy="Wait until the migration ends.",
            example="ldm bind-domain ldg2 on the target while ldg1 arrives: refused.",
            sentence="This includes operations such as bind and stop on other domains on the "
            "machine.",
        ),
    ),
)

assert all(set(b.releases) <= set(RELEASES) for b in BEHAVIOURS)
