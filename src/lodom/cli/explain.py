"""``ldm explain ID``: the page of a rule or an error, without asking ldmd."""

from textwrap import fill

from lodom.core.errors import ObjectUnknown, catalogue
from lodom.core.rules import catalogue as rules


def explain(wanted: str) -> int:
    """Print the page.

    Raises:
        ObjectUnknown: neither a rule nor an error has that id.
    """
    wanted = wanted.upper()
    for error in catalogue():
        if error.code == wanted:
            what = " ".join((error.__doc__ or "").partition("Remedy:")[0].split())
            print(fill(f"{error.code}  {what}", 80))
            print(f"\nText:\n{_indented(error.template)}")
            print(f"\nRemedy:\n{_indented(error.remedy())}")
            print(f"\nExit code: {error.kind.exit_code} ({error.kind.slug})")
            return 0
    try:
        print(rules.explain(wanted), end="")
    except KeyError:
        raise ObjectUnknown(what="Rule or error", name=wanted) from None
    return 0


def _indented(text: str) -> str:
    return fill(text, 80, initial_indent="    ", subsequent_indent="    ")
