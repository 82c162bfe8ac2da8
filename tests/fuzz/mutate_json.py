"""Damage to JSON data: a value replaced, moved, doubled or gone, in text that is JSON still (or nearly)."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.fuzz import mutate_bytes, odd

_MARK = "\ue000 raw \ue000"
Place = tuple[Any, Any]  # a container and the key in it


def mutate(content: bytes, rng: Random) -> bytes:
    """Return a JSON document damaged once or a few times."""
    if rng.random() < 0.2:
        return mutate_bytes.mutate(content, rng)
    try:
        tree = {"": json.loads(content)}
    except (ValueError, RecursionError):  # damaged before
        return mutate_bytes.mutate(content, rng)
    raw: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _damage(tree, raw, rng)
    return _text(tree.get(""), raw).encode(errors="surrogatepass")


def mutate_lines(content: bytes, rng: Random) -> bytes:
    """Return JSON lines with some of them damaged, gone, doubled or out of place."""
    lines = content.splitlines(keepends=True)
    if rng.random() < 0.1 or not lines:
        return mutate_bytes.mutate(content, rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        choice = rng.random()
        if choice < 0.7:
            lines[at] = mutate(lines[at], rng).rstrip(b"\n") + b"\n"
        elif choice < 0.8:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif choice < 0.9 and len(lines) > 1:
            del lines[at]
        else:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return b"".join(lines)


def _damage(tree: dict[str, Any], raw: list[str], rng: Random) -> None:
    place = rng.choice(_places(tree))
    container, key = place
    match rng.randrange(8):
        case 0 | 1 | 2:
            raw.append(odd.text(rng))
            container[key] = _MARK + str(len(raw) - 1)
        case 3 if container is not tree:
            del container[key]
        case 4:
            other, its = rng.choice(_places(tree))
            container[key] = json.loads(json.dumps(other[its]))
        case 5 if isinstance(container, dict) and container is not tree:
            container[rng.choice((key + "x", "", "kind", "schema", key.upper()))] = container.pop(key)
        case 6 if isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        case _:
            container[key] = _nudged(container[key], rng)


def _nudged(value: Any, rng: Random) -> Any:
    """Return a value of the same kind that is not quite it."""
    if isinstance(value, bool) or value is None:
        return rng.choice((True, False, None, 0))
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 10, value * 10**9, 0, float(value), str(value)))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e300, value / 1e300, 0.0, int(value)))
    if isinstance(value, str):
        return rng.choice((value + "x", value[1:], value.upper(), value * 100, [value]))
    return rng.choice(([], {}, [value], list(value) if isinstance(value, dict) else {str(k): k for k in value}))


def _places(tree: Any) -> list[Place]:
    found: list[Place] = []
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        for key in container if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                waiting.append(container[key])
    return found


def _text(value: Any, raw: list[str]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    for number in reversed(range(len(raw))):
        text = text.replace(json.dumps(_MARK + str(number), ensure_ascii=False), raw[number])
    return text
