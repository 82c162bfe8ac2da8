"""A JUnit report as its readers take it: well-formed, by the rules of the schema, every case by its name.

The rules are those of ``junit-10.xsd`` of the xUnit plug-in of Jenkins, as far as elements, attributes and order go.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element


class Rule(NamedTuple):
    """What an element may and must have; text only where `text`."""

    attributes: set[str]
    required: set[str] = set()
    children: set[str] = set()
    text: bool = False


_OUTCOME = Rule({"type", "message"}, text=True)
_COUNTS = {"tests", "failures", "errors"}
RULES = {
    "testsuites": Rule({"name", "time", *_COUNTS}, set(), {"testsuite"}),
    "testsuite": Rule(
        {"name", *_COUNTS, "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
        {"name", *_COUNTS},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": Rule(set(), set(), {"property"}),
    "property": Rule({"name", "value"}, {"name", "value"}),
    "testcase": Rule(
        {"name", "time", "classname", "group"}, {"name"}, {"skipped", "error", "failure", "system-out", "system-err"}
    ),
    "failure": _OUTCOME,
    "error": _OUTCOME,
    "skipped": _OUTCOME,
    "system-out": Rule(set(), text=True),
    "system-err": Rule(set(), text=True),
}
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


class Shown(NamedTuple):
    """A case as a page shows it."""

    outcome: str
    text: str
    kind: str = ""


def breaches(root: Element) -> list[str]:
    """Return every breach of the rules."""
    found = [] if root.tag == "testsuites" else [f"the root is {root.tag}"]
    for element in root.iter():
        rule = RULES.get(element.tag)
        if rule is None:
            found.append(f"no element {element.tag}")
            continue
        found += [f"{element.tag} has no attribute {name}" for name in element.attrib.keys() - rule.attributes]
        found += [f"{element.tag} lacks {name}" for name in rule.required - element.attrib.keys()]
        found += [f"{child.tag} in {element.tag}" for child in element if child.tag not in rule.children]
        found += [f"text in {element.tag}"] if (element.text or "").strip() and not rule.text else []
        found += [f"time {element.get('time')}"] if not _TIME.fullmatch(element.get("time", "")) else []
    return [*found, *_miscounted(root)]


def _miscounted(root: Element) -> list[str]:
    """Return counts that are not those of the cases below; `skipped` where it is stated."""
    found = []
    for element in (root, *root.iter("testsuite")):
        cases = list(element.iter("testcase"))
        there = {"tests": len(cases)}
        for name, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            there[name] = sum(case.find(outcome) is not None for case in cases)
        found += [f"{name} of {element.tag}" for name, n in there.items() if element.get(name, str(n)) != str(n)]
    return found


def cases_of(file: Path | bytes) -> dict[tuple[str, str], Shown]:
    """Return the cases of a report by suite and name, after the rules were checked and that no name comes twice."""
    root = ElementTree.fromstring(file if isinstance(file, bytes) else file.read_bytes())
    assert breaches(root) == []
    found: dict[tuple[str, str], Shown] = {}
    for suite in root:
        for case in suite.iter("testcase"):
            key = (case.get("classname", ""), case.get("name", ""))
            assert key[0] == suite.get("name")
            assert key not in found
            found[key] = _shown(case)
    return found


def _shown(case: Element) -> Shown:
    for outcome in ("failure", "error", "skipped"):
        element = case.find(outcome)
        if element is not None:
            assert (element.text or "").startswith(element.get("message", ""))
            return Shown(outcome, element.text or "", element.get("type", ""))
    return Shown("passed", case.findtext("system-out", ""))
