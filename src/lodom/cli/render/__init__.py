"""From the documents of the API to the text of ``ldm``."""

from collections.abc import Mapping
from typing import Any


def render(verb: str, arguments: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """The lines that *verb* prints for its *document*; only the module that is needed is loaded."""
    parseable, doc = bool(arguments.get("parseable")), dict(document)
    if verb in ("list-domain", "list-bindings"):
        return _domains(verb, arguments, doc["domains"], parseable)
    from lodom.cli.render import machine
    from lodom.cli.render import parseable as p

    match verb:
        case "list-devices":
            show = p.devices if parseable else machine.devices
            wanted, everything = arguments.get("devices", ()), bool(arguments.get("all"))
            return show(doc, wanted, everything=everything)
        case "list-services":
            return (p.services if parseable else machine.services)(doc["services"])
        case "list-constraints":
            return (p.constraints if parseable else machine.constraints)(doc["domains"])
        case "list-variable":
            return machine.variables(doc)
        case "list-spconfig":
            return machine.configurations(doc)
        case "list-history":
            from lodom.cli.render import history

            if arguments.get("json"):
                return history.as_json(doc)
            return (history.parseable if parseable else history.short)(doc["history"])
        case "show-version":
            return machine.version(doc)
    return _plain(doc)


def _domains(
    verb: str, arguments: Mapping[str, Any], documents: list[dict[str, Any]], parseable: bool
) -> list[str]:
    if parseable:
        from lodom.cli.render import parseable as form
    else:
        from lodom.cli.render import domains as form  # type: ignore[no-redef]
    extended = bool(arguments.get("extended"))
    if verb == "list-bindings":
        return form.bindings(documents, extended=extended)
    if arguments.get("formats"):
        return form.subset(documents, arguments["formats"])
    if extended or arguments.get("long"):
        return form.long(documents, extended=extended)
    return form.short(documents)


def _plain(document: Mapping[str, Any]) -> list[str]:
    """What any other command has to say: ``say`` on success, ``lines`` of a list."""
    said = str(document.get("say", ""))
    return [*document.get("lines", ()), *([said] if said else [])]
