"""Damage to YAML and CSV: lines and words replaced, moved, doubled or gone."""

from __future__ import annotations

import re
from random import Random

from tests.fuzz import mutate_bytes, odd

_WORD = re.compile(r"[^\s,:\[\]{}]+")


def mutate(content: bytes, rng: Random) -> bytes:
    """Return a text damaged once or a few times."""
    if rng.random() < 0.15:
        return mutate_bytes.mutate(content, rng)
    text = content.decode(errors="surrogateescape")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice((_word, _word, _word, _line, _indent, _joined))(text, rng)
    return text.encode(errors="surrogateescape")


def _word(text: str, rng: Random) -> str:
    found = list(_WORD.finditer(text))
    if not found:
        return rng.choice(odd.WORDS)
    here = rng.choice(found)
    new = rng.choice(odd.WORDS) if rng.random() < 0.7 else rng.choice(found).group()
    return text[: here.start()] + new + text[here.end() :]


def _line(text: str, rng: Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            lines.insert(at, rng.choice(odd.WORDS) + "\n")
    return "".join(lines)


def _indent(text: str, rng: Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((" ", "  ", "\t", "- ")) + lines[at] if rng.random() < 0.6 else lines[at].lstrip()
    return "".join(lines)


def _joined(text: str, rng: Random) -> str:
    ends = [match.start() for match in re.finditer("\n", text)]
    at = rng.choice(ends) if ends else 0
    return text[:at] + rng.choice((" ", ", ", "\r", "\r\n", "\0", "\u2028", ": ")) + text[at + 1 :]
