"""The reference page of the keys of a scenario, made from their declarations: ``make reference`` writes it.

python -m testbed.scenario.keys_reference > docs/reference/scenario.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from testbed.scenario.keys import Key, keys

_HEAD = """\
<!-- made by `make reference` from the models in testbed/scenario; do not edit -->

# Keys of a scenario

A quantity is written as a number with a unit. Durations: ns, us, ms, s, min, h. Sizes: B, kB, MB, GB. Rates: bit, kbit,
Mbit, Gbit (per second). Prefixes are decimal. `--set` can override every key, addressed by its path. An entry of
`traffic` is addressed by its name or index. `python -m testbed validate --schema` prints a JSON schema, which editors
can use for completion and checks. The page [choices](choices.md) lists the names of policies, families, shapes and
faults. A key inside a group (such as `on.pareto.mean`) is *required* only if the scenario contains the group
(`on.pareto`).
"""


def page() -> str:
    """Return the page, as Markdown."""
    sections: dict[str, list[Key]] = {}
    for key in keys():
        sections.setdefault(_section(key.path), []).append(key)
    return "\n".join([_HEAD, *(line for title, rows in sections.items() for line in _table(title, rows))])


def _section(path: str) -> str:
    first = path.partition(".")[0]
    return first if "." in path else "top level" if first != "expect" else "expect"


def _table(title: str, rows: list[Key]) -> Iterator[str]:
    yield from (f"## {title}", "", "| key | takes | default | meaning |", "|---|---|---|---|")
    for key in rows:
        takes = f"{key.takes}, {key.bounds}" if key.bounds else key.takes
        default = f"`{key.default}`" if key.default not in ("", "required") else key.default
        yield f"| `{key.path.split('.', 1)[-1] if '.' in key.path else key.path}` | {takes} | {default} | {key.doc} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
