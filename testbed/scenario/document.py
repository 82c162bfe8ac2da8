"""YAML read the strict way: plain data, and the line each piece came from.

What differs from PyYAML's defaults, and why:

* Words are those of YAML 1.2 (``yaml_nodes.py``).  YAML 1.1 would turn the keys ``on`` and ``off`` of a traffic source
  into booleans, ``010`` into 8 and ``12:30`` into 750.
* A key given twice is an error; PyYAML keeps the second without a word.
* Tags, merge keys and keys that are no plain words are errors.
* Size, depth and the number of values after expanding aliases are bounded, so that no file takes the machine down
  (an alias of aliases of aliases is a billion values in a kilobyte).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.files.reading import Source
from testbed.scenario.yaml_nodes import MAX_DEPTH, MAX_VALUES, Node, compose

MAX_BYTES = 1_000_000
MAX_SHOWN_CHARS = 100

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a file and where it stands.

    Attributes:
        name: the file as the user named it.
        data: its mapping, made of str, int, float, bool, None, list and dict.
        lines: for each path of keys and indices its line, counted from 1.
    """

    name: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """Return the line of `path`, or of the nearest part around it that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


_VALUE_OF_TAG: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: text.lower() == "true",
    "null": lambda text: None,
}
_KNOWN_TAGS = {"word": {*_VALUE_OF_TAG}, "list": {"", "seq"}, "mapping": {"", "map"}}


def printable(text: str) -> str:
    """Return `text` on one line, whatever is in it, and no longer than a message may be."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return shown if len(shown) <= MAX_SHOWN_CHARS else shown[: MAX_SHOWN_CHARS - 1] + "…"


def read_bytes(path: Path) -> bytes:
    """Return what a scenario file holds.

    Raises:
        InputError: when it is missing, no regular file, not readable or larger than 1 MB.
    """
    source = Source(path, "give a scenario file", f"reading {path}")
    if not source.exists() and "\0" not in str(path):
        raise source.refusal("there is no such file", _files_beside(path))
    return source.read(MAX_BYTES)


def _files_beside(path: Path) -> str:
    """Return which scenarios lie where `path` was looked for."""
    try:
        names = sorted(entry.name for entry in path.parent.glob("*.yaml"))
    except (OSError, ValueError):
        names = []
    return f"there are {', '.join(names[:8])}" if names else "give a scenario file"


def parse(content: bytes, name: str) -> Document:
    """Return the one mapping that `content` holds.

    Raises:
        InputError: when it is no text, no YAML, more than one document, not a mapping, or one of the things this
            module refuses.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"reading {name}", f"it is not UTF-8 text (byte {error.start})", "use a YAML file") from error
    node = compose(text, name)
    if node is None:
        raise InputError(f"reading {name}", "it is empty", "a scenario starts with `version: 1`")
    if node.kind != "mapping":
        raise InputError(
            f"reading {name}", "it is not a mapping of keys to values", "a scenario starts with `version: 1`"
        )
    lines: dict[KeyPath, int] = {}
    data = _Builder(name, lines).value(node, ())
    return Document(name, data, lines)


def parse_value(text: str, name: str) -> Any:
    """Return the value a piece of YAML stands for, such as the right side of ``--set``."""
    node = compose(text, name, in_file=False)
    return None if node is None else _Builder(name, {}).value(node, ())


class _Builder:
    """Turns nodes into data, keeping lines and bounds."""

    def __init__(self, name: str, lines: dict[KeyPath, int]) -> None:
        self._name, self._lines, self._left = name, lines, MAX_VALUES

    def value(self, node: Node, path: KeyPath) -> Any:
        """Return the data of `node`, which stands at `path`."""
        self._left -= 1
        if self._left < 0:
            raise self._refused(node, f"it holds more than {MAX_VALUES:,} values once its aliases are expanded")
        if len(path) > MAX_DEPTH:
            raise self._refused(node, f"it nests deeper than {MAX_DEPTH} levels")
        self._lines.setdefault(path, node.line)
        if node.tag not in _KNOWN_TAGS[node.kind]:
            raise self._refused(node, f"the tag {printable(node.tag)} has no meaning here")
        if node.kind == "mapping":
            return {key: self.value(child, (*path, key)) for key, child in self._entries(node, path)}
        if node.kind == "list":
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._word(node)

    def _entries(self, node: Node, path: KeyPath) -> Iterator[tuple[str, Node]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key in seen:
                raise self._refused(key_node, f"the key '{printable(key)}' is given twice (first in line {seen[key]})")
            child: KeyPath = (*path, key)
            seen[key] = self._lines[child] = key_node.line
            yield key, value_node

    def _word(self, node: Node) -> Any:
        try:
            return _VALUE_OF_TAG[node.tag](node.value)
        except ValueError as error:
            raise self._refused(node, f"{node.value[:40]!r} cannot be read as {node.tag}") from error

    def _refused(self, node: Node, happened: str) -> InputError:
        return InputError(f"{self._name}:{node.line}", happened)
