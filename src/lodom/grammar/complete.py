"""Completion scripts for bash and zsh from the table; domains are asked for with ``ldm list``."""

from lodom.grammar.form import Verb
from lodom.grammar.table import ACTIONS, RESOURCES, VERBS

HEAD = "Completion of ldm. Generated from the command table by python -m lodom.grammar."
NAMES = r"ldm list -p 2>/dev/null | sed -n 's/^DOMAIN|name=\([^|]*\).*/\1/p'"

BASH = """\
# {head}
_ldm() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} words=
    if ((COMP_CWORD == 1)); then
        words="{verbs} --help -V"
    else
        case ${{COMP_WORDS[1]}} in
{cases}
        esac
        [[ $cur == -* ]] || words+=" $({names})"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    [[ ${{COMPREPLY[0]-}} != *= ]] || compopt -o nospace 2>/dev/null
}}
complete -F _ldm ldm
"""

ZSH = """\
#compdef ldm
# {head}
local -a verbs offered
verbs=(
{verbs}
)
if ((CURRENT == 2)); then
    _describe command verbs
    return
fi
case $words[2] in
{cases}
esac
compadd -- ${{(f)"$({names})"}}
compadd -S '' -- $offered
"""


def spellings(verb: Verb) -> list[str]:
    """Every word that means *verb*: name, short form, aliases, shortened parts."""
    action, _, _ = verb.name.partition("-")
    resource = next((r for r in RESOURCES if verb.name == f"{action}-{r.name}"), None)
    found = [verb.name, verb.shown, *verb.aliases]
    for a in (action, ACTIONS.get(action, "")):
        found += [f"{a}-{r}" for r in (resource.name, *resource.aliases) if a] if resource else []
    return sorted(set(found) - {""})


def _offered() -> list[Verb]:
    return [verb for verb in VERBS if verb.implemented and not verb.hidden]


def _words(verb: Verb) -> list[str]:
    """Options, properties and fixed words of a command."""
    words = {o.flag for form in verb.forms for o in form.options}
    words |= {f"{p.name}=" for form in verb.forms for p in form.properties}
    words |= {w for form in verb.forms for o in form.operands for w in o.value.choices}
    return sorted(words)


def _cases(assign: str, indent: str) -> str:
    lines = []
    for verb in _offered():
        words = " ".join(_words(verb))
        if words:
            lines.append(f"{indent}{'|'.join(spellings(verb))}) {assign.format(words)} ;;")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """_describe of zsh cuts at the first bare colon."""
    return text.replace(":", "\\\\:")


def bash() -> str:
    """The script for bash; source it, or put it where bash-completion looks."""
    verbs = " ".join(sorted({verb.shown or verb.name for verb in _offered()} | {"list"}))
    cases = _cases('words="{}"', " " * 12)
    return BASH.format(head=HEAD, verbs=verbs, cases=cases, names=NAMES)


def zsh() -> str:
    """The script for zsh: ``_ldm`` in a folder of ``fpath``."""
    verbs = "\n".join(
        f'    "{verb.shown or verb.name}:{_escaped(verb.help)}"' for verb in _offered()
    )
    cases = _cases("offered=({})", " " * 4)
    return ZSH.format(head=HEAD, verbs=verbs, cases=cases, names=NAMES)
