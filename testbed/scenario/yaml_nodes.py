"""From YAML text to a tree of nodes, each with its line: bounded in number and depth while it is read.

PyYAML composes a whole document before anybody can look at it, in Python, recursively.  Here its parser's events are
taken one by one, from libyaml where PyYAML has it (ten times as fast), so that a file is refused at the line where it
grows beyond reason, and time grows with the text alone.

Words are those of YAML 1.2: only ``true``, ``false``, ``null``, ``~`` and decimal numbers are special.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from testbed.errors import InputError

MAX_VALUES = 100_000
MAX_DEPTH = 32
TAG_PREFIX = "tag:yaml.org,2002:"

_WORDS = {  # by tag
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"),
    "null": re.compile(r"~|null|Null|NULL|"),
}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of a document.

    Attributes:
        kind: what it is.
        tag: what a word stands for, such as ``int``; "" for a usual collection; written out if it is of another kind.
        value: a word's text, or the nodes in a list, or the keys (words) and values of a mapping in pairs.
        line: where it begins, from 1.
    """

    kind: Literal["word", "list", "mapping"]
    tag: str
    value: Any
    line: int


def compose(text: str, name: str, in_file: bool = True) -> Node | None:
    """Return the one document in `text`, None when there is none; an alias is the node it names.

    Raises:
        InputError: no YAML, more than one document, or one beyond `MAX_VALUES` and `MAX_DEPTH`.
    """
    try:
        return _Composer(name, in_file).document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark and in_file else name
        happened = " ".join(part for part in (error.context, error.problem) if part)
        raise InputError(where, f"invalid YAML: {happened}", "check indentation, quotes and colons") from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise InputError(f"reading {name}", f"invalid YAML: {str(error).splitlines()[0]}") from error


class _Composer:
    """Builds nodes of the parser's events."""

    def __init__(self, name: str, in_file: bool) -> None:
        self._name, self._in_file, self._left = name, in_file, MAX_VALUES
        self._named: dict[str, Node | None] = {}  # None while the node is being built

    def document(self, events: Iterator[Any]) -> Node | None:
        """Return the only document among the events."""
        root: Node | None = None
        for event in events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            if root is not None:
                raise self._refused(event, "invalid YAML: expected a single document, but another one begins here")
            root = self._node(next(events), events, 0)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        self._left -= 1
        if self._left < 0:
            raise self._refused(event, f"it holds more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            raise self._refused(event, f"it nests deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor is not None:
            self._named[event.anchor] = None
        node = self._built(event, events, depth + 1)
        if event.anchor is not None:
            self._named[event.anchor] = node
        return node

    def _built(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        line, tag = event.start_mark.line + 1, _explicit(event)
        if isinstance(event, yaml.ScalarEvent):
            return Node("word", tag or (_meant(event.value) if event.implicit[0] else "str"), event.value, line)
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._node(one, events, depth) for one in _until(yaml.SequenceEndEvent, events)]
            return Node("list", tag, items, line)
        keys = _until(yaml.MappingEndEvent, events)
        pairs = [(self._key(key), self._node(next(events), events, depth)) for key in keys]
        return Node("mapping", tag, pairs, line)

    def _key(self, event: Any) -> Node:
        line = event.start_mark.line + 1
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refused(event, "a key must be a plain scalar")
        return Node("word", "str", event.value, line)

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._named:
            raise self._refused(event, f"invalid YAML: found undefined alias {event.anchor!r}")
        node = self._named[event.anchor]
        if node is None:
            raise self._refused(event, f"the alias {event.anchor!r} refers to a node that contains it")
        return node

    def _refused(self, event: Any, happened: str) -> InputError:
        return InputError(f"{self._name}:{event.start_mark.line + 1}" if self._in_file else self._name, happened)


def _until(end: type[yaml.Event], events: Iterator[Any]) -> Iterator[Any]:
    """Yield events up to the end of the collection; what a node consists of is taken by whoever builds it."""
    for event in events:
        if isinstance(event, end):
            return
        yield event


def _explicit(event: Any) -> str:
    """Return a tag that is written out; "!" says no more than that a word is not looked at."""
    return "" if event.tag in (None, "!") else str(event.tag).removeprefix(TAG_PREFIX)


def _meant(word: str) -> str:
    """Return what a plain word stands for."""
    return next((tag for tag, pattern in _WORDS.items() if pattern.fullmatch(word)), "str")
