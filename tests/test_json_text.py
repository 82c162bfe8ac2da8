"""JSON from elsewhere: what takes long or much is refused before anything is built, text and plain numbers are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.errors import InputError
from testbed.files import json_text
from testbed.files.reading import Source

SOURCE = Source(Path("x.json"), "name another")
MOST = 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_NAMES", MOST)
    monkeypatch.setattr(json_text, "MAX_CAREFUL", 2 * MOST)


def listed(unit: str, count: int) -> str:
    return f"[{','.join([unit] * count)}]"


@pytest.mark.parametrize("last", ["", "?", "]]"], ids=["sound", "damaged", "deformed"])
@pytest.mark.parametrize(
    "text",
    [
        listed("[]", MOST),
        listed("{}", MOST),
        listed('{"":0}', MOST // 2),
        "{" + ",".join(f'"{k}":0' for k in range(MOST)) + "}",
        listed('{"a":{"b":[]}}', MOST // 5 + 1),
        listed("1e300", 2 * MOST + 1),
        listed("9223372036854775807", 2 * MOST + 1),
    ],
)
def test_too_much_to_build_is_refused_before_it_is_built(text: str, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_USUAL", None)
    monkeypatch.setattr(json_text, "_CAREFUL", None)
    with pytest.raises(InputError, match=r"it contains \d+ names"):
        json_text.parse((text + last).encode(), SOURCE)


@pytest.mark.parametrize(
    "text",
    [
        listed("1", 10 * MOST),
        listed("0.5", 10 * MOST),
        listed('"[{:,"', 2 * MOST),
        listed(r'"\"[\\"', MOST),
        listed("[]", MOST - 1),
        listed('{"":0}', (MOST - 1) // 2),
        listed("1e300", 2 * MOST - 1),
    ],
)
def test_numbers_and_texts_are_no_names(text: str) -> None:
    assert json_text.parse(text.encode(), SOURCE) == json.loads(text)


def test_depth_is_refused_in_small_texts_too() -> None:
    deep = json_text.MAX_DEPTH + 1
    with pytest.raises(InputError, match="nests deeper"):
        json_text.parse(("[" * deep + "]" * deep).encode(), SOURCE)
