"""The reference page of the command line, made from the verbs and the exit codes: ``make reference`` writes it.

python -m testbed.commands.reference > docs/reference/commands.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from testbed import commands
from testbed.errors import CODES_OF_EXIT

_HEAD = """\
<!-- made by `make reference` from testbed/commands and testbed/errors.py; do not edit -->

# Command line

Run every verb as `python -m testbed VERB` or `testbed VERB`. `python -m testbed --debug VERB` adds a traceback to error
messages. Plain `sudo` would use the system's Python instead of the active environment. Where an example has `sudo`,
write `sudo env "PATH=$PATH" python -m testbed VERB`.
"""


def page() -> str:
    """Return the page, as Markdown."""
    verbs = typer.main.get_command(commands.app).commands  # type: ignore[attr-defined]
    shown = ((name, verb) for name, verb in verbs.items() if not verb.hidden)
    parts = [line for name, verb in shown for line in _verb(name, verb)]
    return "\n".join([_HEAD, *parts, *exit_codes(), ""])


def exit_codes() -> Iterator[str]:
    """Yield the section of the exit codes."""
    yield from ("## Exit codes", "", "| code | meaning |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in CODES_OF_EXIT.items())


def _verb(name: str, verb: Any) -> Iterator[str]:
    arguments = [one for one in verb.params if one.param_type_name == "argument"]
    options = [one for one in verb.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, *(one.metavar or one.name.upper() for one in arguments)])
    yield from (f"## {name}", "", f"`{usage}`", "", verb.help.split("\n\n")[0].strip(), "")
    rows = [(f"`{one.metavar or one.name.upper()}`", one.help or "", "") for one in arguments]
    rows += [(f"`{_option(one)}`", one.help or "", _default(one)) for one in options]
    if rows:
        yield from ("| argument or option | meaning | default |", "|---|---|---|")
        yield from (f"| {what} | {_cell(meaning)} | {default} |" for what, meaning, default in rows)
        yield ""
    if verb.epilog:
        yield from (verb.epilog, "")


def _option(option: Any) -> str:
    return " ".join([option.opts[0], *([option.metavar] if option.metavar else [])])


def _default(option: Any) -> str:
    plain = option.default is None or option.is_flag or callable(option.default) or option.default in ("", [], ())
    return "" if plain else f"`{option.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(page())
