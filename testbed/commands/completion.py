"""`completion`: what the shell offers when the tabulator is pressed: verbs, options, keys and names of `--set`, files.

    shell ── script of `completion bash` ── python -m testbed completion bash --line "so far" ──▶ words, one a line

The script serves ``testbed`` as well as ``python -m testbed``.  Where no word is printed the shell offers files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from testbed import output
from testbed.commands.app import app

_SCRIPT = """\
_testbed_words() {  # the program's words, and the line up to the cursor
    local IFS=$'\\n'
    COMPREPLY=($("$@" completion bash --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
_testbed() { _testbed_words "${COMP_WORDS[0]}"; }
_testbed_of_python() {
    COMPREPLY=()
    if [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == testbed && $COMP_CWORD -gt 2 ]]; then
        _testbed_words "${COMP_WORDS[0]}" -m testbed
    fi
}
complete -o default -F _testbed testbed
complete -o default -F _testbed_of_python python python3
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


@app.command(epilog="Example: `python -m testbed completion bash`; add its output to ~/.bashrc (zsh: ~/.zshrc)")
def completion(
    shell: Annotated[Literal["bash", "zsh"], typer.Argument(help="bash or zsh", show_default=False)],
    line: Annotated[
        str | None, typer.Option("--line", hidden=True, help="a command line, whose last word is to be completed")
    ] = None,
) -> None:
    """Print a script that lets the shell complete verbs, options, keys, policies and files."""
    if line is None:
        output.say((_ZSH if shell == "zsh" else "") + _SCRIPT)
        return
    words = _behind_the_program(line.split(" "))
    for word in _continuations([word for word in words[:-1] if word], words[-1] if words else ""):
        output.say(word)


def _behind_the_program(words: list[str]) -> list[str]:
    """Return the words behind ``testbed`` or ``python -m testbed``; a path to either may have folders of that name."""
    at = next((place for place, word in enumerate(words) if word.rpartition("/")[2] == "testbed"), len(words))
    return words[at + 1 :]


def _continuations(before: list[str], begun: str) -> Iterator[str]:
    """Return the words that `begun` may become, after those before; of ``key=value`` the value alone, as shells do."""
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if not before:
        return _fitting(begun, (name for name, verb in verbs.items() if not verb.hidden))
    verb = verbs.get(before[0])
    if verb is None:
        return iter(())
    if before[-1] == "--set":
        key, separator, value = begun.partition("=")
        return _fitting(value, _values(key)) if separator else _fitting(begun, (f"{name}=" for name in _keys()))
    option = next((one for one in verb.params if before[-1] in one.opts and not getattr(one, "is_flag", False)), None)
    if option is not None:
        return _fitting(begun, _choices(before[0], option))
    if begun.startswith("-"):
        return _fitting(begun, (name for one in verb.params for name in one.opts if name.startswith("-")))
    arguments = [one for one in verb.params if one.param_type_name == "argument"]
    kinds = (
        _list_kinds()
        if before[0] == "list"
        else _choices(before[0], arguments[0])
        if arguments and len(before) == 1
        else ()
    )
    return _fitting(begun, kinds)


def _fitting(begun: str, words: Iterable[str]) -> Iterator[str]:
    return (word for word in words if word.startswith(begun))


def _choices(verb: str, parameter: Any) -> Iterator[str]:
    """Yield the words that a parameter may be, by the annotation of the verb's function."""
    callback = next(one.callback for one in app.registered_commands if _name_of(one) == verb)
    annotation = get_type_hints(callback).get(parameter.name) if callback is not None else None
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) is Literal:
            yield from map(str, get_args(part))


def _name_of(registered: Any) -> str:
    return str(registered.name or registered.callback.__name__)


def _list_kinds() -> Iterable[str]:
    from testbed.commands.listing import KINDS

    return KINDS


def _keys() -> Iterator[str]:
    """Yield every key of a scenario that stands for a value, with dots."""
    from testbed.scenario.keys import keys

    return (row.path for row in keys() if "[]" not in row.path)


def _values(path: str) -> Iterator[str]:
    """Yield the words that the key of a scenario may have."""
    from testbed.scenario.keys import keys

    return (str(word) for row in keys() if row.path == path for word in row.words)
