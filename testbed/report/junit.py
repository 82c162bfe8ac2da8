"""JUnit XML, which CI services show: suites of cases, each passed, failed, in error or skipped.

A case *failed* where something is not as expected.  It is an *error* where nothing can be said of it, and *skipped*
where it was not judged.  There is no standard: elements and attributes are those that the schema of Jenkins allows, and
other services read a part of them.  GitLab shows the text of a failure and not its message, so both say why; of two
cases of one name it drops the second, so names that are equal get numbers.

The file is written at the beginning, too, and says then that what it reports has not ended.  So whatever stops the
process, the report of an earlier one is never taken for its own.

Source: jenkinsci/xunit-plugin, ``junit-10.xsd``; GitLab, "Unit test reports".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from testbed.errors import TestbedError
from testbed.files import writing

Outcome = Literal["passed", "failure", "error", "skipped"]
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
_COUNTED = (("failures", "failure"), ("errors", "error"))


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: what was tested.
        outcome: what came of it.
        message: why it did not pass, in a line.
        kind: of a failure or error, in a word.
        details: more lines.
        time_s: how long it took.
    """

    name: str
    outcome: Outcome = "passed"
    message: str = ""
    kind: str = ""
    details: str = ""
    time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases that belong together; `properties` say of what they are."""

    name: str
    cases: tuple[Case, ...]
    properties: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def reported(file: Path | None, name: str) -> Iterator[list[Suite]]:
    """Write the suites that the block collects into a file, however the block ends; None: write nothing.

    Args:
        file: the report; its folder is made if need be.
        name: of the suite that says why the block did not end as it should.

    Raises:
        ToolError: when it cannot be written.
    """
    suites: list[Suite] = []
    if file is None:
        yield suites
        return
    _write(file, [_broken(name, "it has not ended", "unfinished")])
    try:
        yield suites
    except BaseException as error:
        message = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or "no message"
        with suppress(TestbedError):  # of two failures the first one is reported
            _write(file, [*suites, _broken(name, message, type(error).__name__)])
        raise
    _write(file, suites)


def to_xml(suites: Sequence[Suite]) -> bytes:
    """Return a report as a file holds it, in UTF-8."""
    cases = [case for suite in suites for case in suite.cases]
    root = Element("testsuites", {"name": "testbed", **_counts(cases)})
    for name, suite in zip(_apart(suite.name for suite in suites), suites, strict=True):
        root.append(_suite(name, suite))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _broken(name: str, message: str, kind: str) -> Suite:
    return Suite(name, (Case("end", "error", message, kind),))


def _write(file: Path, suites: Sequence[Suite]) -> None:
    elsewhere = "name another --junit"
    writing.folder(file.parent, elsewhere=elsewhere)
    writing.replace(file, to_xml(suites), durable=False, elsewhere=elsewhere)


def _suite(name: str, suite: Suite) -> Element:
    skipped = sum(case.outcome == "skipped" for case in suite.cases)
    element = Element("testsuite", {"name": name, **_counts(suite.cases), "skipped": str(skipped)})
    if suite.properties:
        properties = SubElement(element, "properties")
        for key, value in suite.properties.items():
            SubElement(properties, "property", {"name": _clean(key), "value": _clean(value)})
    for case_name, case in zip(_apart(case.name for case in suite.cases), suite.cases, strict=True):
        head = {"name": case_name, "classname": name, "time": f"{case.time_s:.3f}"}
        _fill(SubElement(element, "testcase", head), case)
    return element


def _fill(element: Element, case: Case) -> None:
    text = _clean("\n".join(filter(None, (case.message, case.details))))
    if case.outcome != "passed":
        about = {"message": _clean(case.message), "type": _clean(case.kind or case.outcome)}
        SubElement(element, case.outcome, about).text = text
    elif text:
        SubElement(element, "system-out").text = text


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    found: Counter[str] = Counter(case.outcome for case in cases)
    numbers = {"tests": len(cases), **{name: found[outcome] for name, outcome in _COUNTED}}
    time_s = sum(case.time_s for case in cases)
    return {**{name: str(number) for name, number in numbers.items()}, "time": f"{time_s:.3f}"}


def _apart(names: Iterable[str]) -> list[str]:
    """Return the names as XML takes them; the second and third of a kind are numbered."""
    taken: dict[str, None] = {}
    repeated: Counter[str] = Counter()
    for name in map(_clean, names):
        one = name
        while one in taken:
            repeated[name] += 1
            one = f"{name} ({repeated[name] + 1})"
        taken[one] = None
    return list(taken)


def _clean(text: str) -> str:
    """Return a text with escapes for the signs that XML cannot hold, such as the bytes of a name that is no text."""
    return _NO_XML.sub(lambda found: ascii(found[0])[1:-1], text)
