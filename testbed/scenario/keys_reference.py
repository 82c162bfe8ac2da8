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

A quantity is a text with its unit: durations in ns, us, ms, s, min, h; sizes in B, kB, MB, GB; rates in bit, kbit,
Mbit, Gbit (a second). Prefixes are decimal. `--set` reaches every key by its path, an entry of `traffic` by its name or
number. An editor learns the keys from `python -m testbed validate --schema`. Names of policies, families, shapes and
faults: [choices](choices.md). A key inside a group (`on.pareto.mean`) is *required* only where its group is given.
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
