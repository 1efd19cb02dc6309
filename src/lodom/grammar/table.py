"""The whole command grammar of ``ldm``: parser, usage, completion and manuals come from here.

The second field of every option, property and operand is the name of the argument that the engine
gets (``CommandGiven.arguments``).  Names with a comma are several arguments made from one word.
An argument that was not given is absent, except operands that are lists: they are always there,
empty when no word was given.  Flags are ``true``.  An empty property (``mtu=``) gives None, "" or
[] and clears the value.  Sizes are bytes; MACs are lower case.  Source: ldm-cli digest 1.2 to 1.4.
"""

from lodom.grammar import values as v
from lodom.grammar.form import Form, Operand, Option, Property, Resource, Verb

RESOURCES = (
    Resource("bindings"),
    Resource("services"),
    Resource("constraints"),
    Resource("devices"),
    Resource("domain", ("dom",)),
    Resource("io"),
    Resource("mau", ("crypto",)),
    Resource("memory", ("mem",)),
    Resource("operation"),
    Resource("spconfig", ("config",)),
    Resource("variable", ("var",)),
    Resource("vconscon", ("vcc",)),
    Resource("vconsole", ("vcons",)),
    Resource("vcpu", ("cpu",)),
    Resource("vdisk"),
    Resource("vdiskserver", ("vds",)),
    Resource("vdiskserverdevice", ("vdsdev",)),
    Resource("vdpcc", ("ndpsldcc",)),
    Resource("vdpcs", ("ndpsldcs",)),
    Resource("vnet"),
    Resource("vswitch", ("vsw",)),
    Resource("rule"),
    Resource("history"),
)
ACTIONS = {"list": "ls", "remove": "rm"}
"""Words of verbs and what they may be shortened to."""

REWRITTEN = {
    "cancel-reconf": ("cancel-operation", "reconf"),
    "remove-reconf": ("cancel-operation", "reconf"),
}
"""Older spellings of whole commands."""

READ, WRITE = "read", "write"

_LDOM = Operand("ldom", v.LDOM)
_LDOMS = Operand("ldoms", v.LDOM, many=True)
_ONE_LDOM = Operand("ldoms", v.ONE_LDOM)
_ANY_LDOMS = Operand("ldoms", v.LDOM, many=True, optional=True)
_NAME = Operand("name", v.NAME)
_SERVICE_NAME = Operand("name", v.SERVICE)
_VOLUME = Operand("volume,service", v.VOLUME)

_ALL = Option("-a", "all", required=True)
_FILE = Option("-i", "file", v.FILE, required=True)
_FORCE = Option("-f", "force")
_LONG = Option("-l", "long")
_EXTENDED = Option("-e", "extended")
_PARSEABLE = Option("-p", "parseable")
_FORMAT = Option("-o", "formats", v.FORMATS)
_AUTOSAVE = Option("-r", "autosave", required=True)

_MAC = Property("mac-addr", "mac", v.MAC)
_HOSTID = Property("hostid", "hostid", v.HOSTID)
_POLICY = Property("failure-policy", "failure_policy", v.POLICY)
_MASTERS = Property("master", "masters", v.MASTERS)
_PVID = Property("pvid", "pvid", v.PVID)
_VIDS = Property("vid", "vids", v.VIDS)
_MTU = Property("mtu", "mtu", v.MTU)
_NET_DEV = Property("net-dev", "net_dev", v.NET_DEV)
_SC = Property("mode", "mode", v.SC)
_HYBRID = Property("mode", "mode", v.HYBRID)
_TIMEOUT = Property("timeout", "timeout", v.SECONDS)
_OPTIONS = Property("options", "options", v.DISK_OPTIONS)
_MPGROUP = Property("mpgroup", "mpgroup", v.MPGROUP)
_PORTS = Property("port-range", "low,high", v.PORT_RANGE, required=True)


def _id(word: str) -> Property:
    return Property("id", "id", v.ID, shown=f"<{word}>")


def _named(word: str) -> Operand:
    return Operand("name", v.NAME, shown=word)


def _form(*parts: Option | Property | Operand) -> Form:
    return Form(
        tuple(part for part in parts if isinstance(part, Option)),
        tuple(part for part in parts if isinstance(part, Property)),
        tuple(part for part in parts if isinstance(part, Operand)),
    )


_LISTS = (
    Verb("list-bindings", "bindings", READ, "List what domains are bound to, and to whom",
         (_form(_EXTENDED, _PARSEABLE, _ANY_LDOMS),)),
    Verb("list-services", "services", READ, "List virtual I/O services",
         (_form(_EXTENDED, _PARSEABLE, _ANY_LDOMS),)),
    Verb("list-constraints", "constraints", READ, "List what was asked for domains",
         (_form(Option("-x", "xml"), _ANY_LDOMS),
          _form(_EXTENDED, _PARSEABLE, _ANY_LDOMS)),
         note="-x not yet"),
    Verb("list-devices", "devices", READ, "List free (-a: all) devices of the machine",
         (_form(Option("-a", "all"), _PARSEABLE,
                Operand("devices", v.DEVICE, many=True, optional=True)),)),
)  # fmt: skip

_DOMAIN = (
    Verb("add-domain", "domain", WRITE, "Create domains",
         (_form(_FILE), _form(_MAC, _HOSTID, _POLICY, _MASTERS, _ONE_LDOM), _form(_LDOMS)),
         ("create",), note="-i not yet"),
    Verb("set-domain", "domain", WRITE, "Change a domain's properties",
         (_form(_FILE), _form(_POLICY, _MASTERS._replace(shown="[<master-ldom1,...,master-ldom4>]"),
                             _MAC, _HOSTID, _LDOM)),
         ("modify",), note="-i not yet"),
    Verb("remove-domain", "domain", WRITE, "Delete inactive domains",
         (_form(_ALL), _form(_LDOMS)), ("destroy",)),
    Verb("list-domain", "domain", READ, "List domains",
         (_form(_EXTENDED, _LONG, _FORMAT, _PARSEABLE, _ANY_LDOMS),), ("list", "ls")),
    Verb("start-domain", "domain", WRITE, "Start bound domains",
         (_form(_ALL), _form(_FILE), _form(_LDOMS)), ("start",), note="-i not yet"),
    Verb("stop-domain", "domain", WRITE, "Stop domains; -f without asking the guest",
         (_form(_FORCE, _ALL), _form(_FORCE, _LDOMS)), ("stop",)),
    Verb("panic-domain", "domain", WRITE, "Make a guest panic and dump", (_form(_LDOM),),
         ("panic",)),
    Verb("bind-domain", "domain", WRITE, "Give a domain its resources",
         (_form(_FILE), _form(_LDOM)), ("bind",), note="-i not yet"),
    Verb("unbind-domain", "domain", WRITE, "Take a domain's resources back", (_form(_LDOM),),
         ("unbind",)),
    Verb("migrate-domain", "domain", WRITE, "Move a domain to another machine; -n only checks",
         (_form(Option("-f", "force"), Option("-n", "dry_run"), Option("-v", "verbose"),
                Option("--json", "json"), Option("-c", "certificates", required=True),
                Operand("ldom", v.LDOM, shown="source-ldom"),
                Operand("user,host,target", v.TARGET)),
          _form(Option("-f", "force"), Option("-n", "dry_run"), Option("-v", "verbose"),
                Option("--json", "json"), Option("-p", "password_file", v.FILE),
                Operand("ldom", v.LDOM, shown="source-ldom"),
                Operand("user,host,target", v.TARGET))),
         ("migrate", "mig"),
         note="-f, -p and -c as later releases have them; -v and --json are ours"),
    Verb("recover-domain", "domain", WRITE, "Show a hand-over in doubt and end it on consent",
         (_form(Option("-y", "yes"), _LDOM),), ("recover",), ours=True),
)  # fmt: skip


def _counted(resource: str, what: str) -> tuple[Verb, ...]:
    """The ``add-``, ``set-`` and ``remove-`` of strands and crypto units."""
    return (
        Verb(f"add-{resource}", resource, WRITE, f"Add {what} to a domain",
             (_form(Operand("number", v.COUNT), _LDOM),)),
        Verb(f"set-{resource}", resource, WRITE, f"Set the number of {what} of a domain",
             (_form(Operand("number", v.COUNT_OR_NONE), _LDOM),)),
        Verb(f"remove-{resource}", resource, WRITE, f"Remove {what} from a domain",
             (_form(Operand("number", v.COUNT), _LDOM),)),
    )  # fmt: skip


_MACHINE = (
    *_counted("vcpu", "virtual CPUs"),
    *_counted("mau", "crypto units"),
    Verb("add-memory", "memory", WRITE, "Add memory to a domain",
         (_form(Operand("size", v.SIZE), _LDOM),)),
    Verb("set-memory", "memory", WRITE, "Set the amount of memory of a domain",
         (_form(Operand("size", v.SIZE_OR_NONE), _LDOM),)),
    Verb("remove-memory", "memory", WRITE, "Remove memory from a domain",
         (_form(Operand("size", v.SIZE), _LDOM),)),
    Verb("cancel-operation", "operation", WRITE, "Cancel a migration or a delayed reconfiguration",
         (_form(Operand("operation", v.OPERATION), _LDOM),), ("cancel-op",)),
    Verb("add-io", "io", WRITE, "Give an I/O bus to a domain",
         (_form(Property("bypass", "bypass", v.BYPASS), Operand("bus", v.BUS), _LDOM),)),
    Verb("remove-io", "io", WRITE, "Take an I/O bus from a domain",
         (_form(Operand("bus", v.BUS), _LDOM),)),
    Verb("add-spconfig", "spconfig", WRITE, "Save the configuration under a name",
         (_form(_AUTOSAVE, Operand("name", v.CONFIG, shown="autosave-name"),
                Operand("new_name", v.CONFIG, optional=True, shown="new-config-name")),
          _form(Operand("name", v.CONFIG))), note="-r: there are no autosaves"),
    Verb("set-spconfig", "spconfig", WRITE, "Select the configuration of the next boot",
         (_form(Operand("name", v.CONFIG)),)),
    Verb("remove-spconfig", "spconfig", WRITE, "Delete a saved configuration",
         (_form(Option("-r", "autosave"), Operand("name", v.CONFIG)),),
         note="-r: there are no autosaves"),
    Verb("list-spconfig", "spconfig", READ, "List saved configurations",
         (_form(_AUTOSAVE, Operand("name", v.CONFIG, optional=True, shown="autosave-name")),
          _form()), note="-r: there are no autosaves"),
    Verb("add-variable", "variable", WRITE, "Add variables to a domain",
         (_form(Operand("variables", v.ASSIGNMENT, many=True), _LDOM),),
         note="variables is a list of [name, value]"),
    Verb("set-variable", "variable", WRITE, "Set variables of a domain",
         (_form(Operand("variables", v.ASSIGNMENT, many=True), _LDOM),),
         note="variables is a list of [name, value]"),
    Verb("remove-variable", "variable", WRITE, "Remove variables from a domain",
         (_form(Operand("names", v.VARIABLE, many=True), _LDOM),)),
    Verb("list-variable", "variable", READ, "List variables of a domain",
         (_form(Operand("names", v.VARIABLE, many=True, optional=True), _LDOM),)),
)  # fmt: skip

_CONSOLE = (
    Verb("add-vconscon", "vconscon", WRITE, "Add a console concentrator",
         (_form(_PORTS, _named("vcc-name"), _LDOM),), shown="add-vcc"),
    Verb("set-vconscon", "vconscon", WRITE, "Change the ports of a console concentrator",
         (_form(_PORTS, _named("vcc-name")),), shown="set-vcc"),
    Verb("remove-vconscon", "vconscon", WRITE, "Remove a console concentrator",
         (_form(_FORCE, _named("vcc-name")),), shown="remove-vcc"),
    Verb("set-vconsole", "vconsole", WRITE, "Change a domain's console",
         (_form(Property("port", "port", v.PORT, shown="[<port-num>]"),
                Property("group", "group", v.GROUP), Property("service", "service", v.VCC),
                _LDOM),),
         shown="set-vcons"),
)  # fmt: skip

_DISK = (
    Verb("add-vdisk", "vdisk", WRITE, "Add a virtual disk to a domain",
         (_form(_TIMEOUT, _id("disk-id"), _named("disk-name"), _VOLUME, _LDOM),)),
    Verb("set-vdisk", "vdisk", WRITE, "Change a virtual disk",
         (_form(_TIMEOUT, Property("volume", "volume,service", v.VOLUME), _named("disk-name"),
                _LDOM),)),
    Verb("remove-vdisk", "vdisk", WRITE, "Remove a virtual disk",
         (_form(_FORCE, _named("disk-name"), _LDOM),)),
    Verb("add-vdiskserver", "vdiskserver", WRITE, "Add a disk server",
         (_form(_SERVICE_NAME, _LDOM),), shown="add-vds"),
    Verb("remove-vdiskserver", "vdiskserver", WRITE, "Remove a disk server",
         (_form(_FORCE, _SERVICE_NAME),), shown="remove-vds"),
    Verb("add-vdiskserverdevice", "vdiskserverdevice", WRITE, "Export a volume from a disk server",
         (_form(_FORCE, _OPTIONS, _MPGROUP,
                Operand("backend", v.BACKEND), _VOLUME),), shown="add-vdsdev"),
    Verb("set-vdiskserverdevice", "vdiskserverdevice", WRITE, "Change a volume's options",
         (_form(_FORCE, _OPTIONS._replace(required=True, shown="[{ro,slice,excl}]"),
                _MPGROUP, _VOLUME),),
         shown="set-vdsdev"),
    Verb("remove-vdiskserverdevice", "vdiskserverdevice", WRITE, "Stop exporting a volume",
         (_form(_FORCE, _VOLUME),), shown="remove-vdsdev"),
)  # fmt: skip

_NETWORK = (
    Verb("add-vnet", "vnet", WRITE, "Add a virtual network device to a domain",
         (_form(_MAC, _HYBRID, _PVID, _VIDS, _MTU, _id("network-id"), _named("if-name"),
                Operand("switch", v.NAME, shown="vswitch-name"), _LDOM),)),
    Verb("set-vnet", "vnet", WRITE, "Change a virtual network device",
         (_form(_MAC, Property("vswitch", "switch", v.NAME, shown="<vswitch-name>"),
                _HYBRID._replace(shown="[hybrid]"), _PVID,
                _VIDS, _MTU, _named("if-name"), _LDOM),)),
    Verb("remove-vnet", "vnet", WRITE, "Remove a virtual network device",
         (_form(_FORCE, _named("if-name"), _LDOM),)),
    Verb("add-vswitch", "vswitch", WRITE, "Add a virtual switch",
         (_form(Property("default-vlan-id", "default_vlan", v.VLAN), _PVID, _VIDS, _MAC, _NET_DEV,
                _SC, _MTU, _id("switch-id"), _named("vswitch-name"), _LDOM),), shown="add-vsw"),
    Verb("set-vswitch", "vswitch", WRITE, "Change a virtual switch",
         (_form(_PVID, _VIDS, _MAC, _NET_DEV, _SC._replace(shown="[sc]"), _MTU,
                _named("vswitch-name")),),
         shown="set-vsw"),
    Verb("remove-vswitch", "vswitch", WRITE, "Remove a virtual switch",
         (_form(_FORCE, _named("vswitch-name")),), shown="remove-vsw"),
)  # fmt: skip

_CHANNELS = (
    Verb("add-vdpcs", "vdpcs", WRITE, "Add a data plane channel service",
         (_form(_named("vdpcs-service-name"), _LDOM),), implemented=False),
    Verb("remove-vdpcs", "vdpcs", WRITE, "Remove a data plane channel service",
         (_form(_FORCE, _named("vdpcs-service-name")),), implemented=False),
    Verb("add-vdpcc", "vdpcc", WRITE, "Add a data plane channel client",
         (_form(_named("vdpcc-name"), Operand("service", v.NAME, shown="vdpcs-service-name"),
                _LDOM),), implemented=False),
    Verb("remove-vdpcc", "vdpcc", WRITE, "Remove a data plane channel client",
         (_form(_FORCE, _named("vdpcc-name"), _LDOM),), implemented=False),
)  # fmt: skip

_OURS = (
    Verb("explain", "rule", READ, "Show the manual page of a rule or an error",
         (_form(Operand("id", v.RULE)),), ours=True),
    Verb("list-history", "history", READ, "List what was done: commands and migrations",
         (_form(_PARSEABLE, Option("--json", "json"), Option("-n", "number", v.COUNT),
                _ANY_LDOMS),),
         ours=True, note="the last 10000 of 400 days"),
    Verb("show-version", "", READ, "Versions of Lodom, its hypervisor and its accelerator",
         (_form(),), ours=True, hidden=True, note="ldm -V"),
    Verb("show-fingerprint", "", READ, "Fingerprint of this machine's certificate",
         (_form(),), ours=True, hidden=True, note="ldm-setup fingerprint"),
    Verb("stop-guests", "", WRITE, "Stop all guests because the host goes down",
         (_form(Operand("timeout", v.COUNT)),), ours=True, hidden=True,
         note="ldm-setup stop-guests; timeout in seconds"),
    Verb("start-guests", "", WRITE, "Start what stop-guests stopped",
         (_form(),), ours=True, hidden=True, note="ldm-setup start-guests"),
    Verb("examine-peer", "", WRITE, "What this machine and another need of each other",
         (_form(Operand("host", v.HOST)),), ours=True, hidden=True, note="ldmd --doctor --peer"),
    Verb("trust-peer", "", WRITE, "Accept the certificate of another machine",
         (_form(Option("--fingerprint", "fingerprint", v.FINGERPRINT),
                Operand("host", v.HOST)),),
         ours=True, hidden=True, note="ldm-setup trust"),
)  # fmt: skip

VERBS = (*_LISTS, *_DOMAIN, *_MACHINE, *_CONSOLE, *_DISK, *_NETWORK, *_CHANNELS, *_OURS)
BY_NAME = {verb.name: verb for verb in VERBS}


def role_of(verb: str) -> str:
    """``read`` or ``write``: what a user needs for *verb*; unknown verbs need ``write``."""
    found = BY_NAME.get(verb)
    return found.role if found else WRITE
