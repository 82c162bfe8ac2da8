"""``--set key.path=value``: changes to a scenario's data before it is checked.

The path names keys; an item of a list is named by its index or by its ``name``.  The value is read as YAML.  A key
that the file leaves to its default may be set too; whether it exists at all is for the model to say.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from testbed.errors import InputError
from testbed.scenario.complaints import nearest, shown
from testbed.scenario.document import KeyPath, parse_value, printable


@dataclass(frozen=True, slots=True)
class Override:
    """One change.

    Attributes:
        text: the option as given, to name it in errors.
        path: where it went.
    """

    text: str
    path: KeyPath


@dataclass(frozen=True, slots=True)
class Setting:
    """A change that is asked for, its value already data.

    Attributes:
        text: who asks for it, to name it in errors: an option, or file and line.
        key: the dotted path.
        value: made of str, int, float, bool, None, list and dict.
    """

    text: str
    key: str
    value: Any

    @classmethod
    def of(cls, option: str, name: str = "--set") -> Setting:
        """Return what the ``key.path=value`` of the option `name` asks for.

        Raises:
            InputError: when it is none, or its value is no YAML.
        """
        text = f"{name} {printable(option)}"
        key, separator, written = option.partition("=")
        if not separator:
            raise InputError(text, "expected key.path=value", f"such as {name} buffer.policy=reactive")
        return cls(text, key.strip(), parse_value(written, text))


def apply(data: dict[str, Any], settings: Iterable[str | Setting]) -> list[Override]:
    """Change `data` in place and return what was changed, in order.

    Raises:
        InputError: when a setting is no ``key.path=value``, its value no YAML, or its path leads nowhere.
    """
    return [_apply_one(data, Setting.of(item) if isinstance(item, str) else item) for item in settings]


def _apply_one(data: dict[str, Any], setting: Setting) -> Override:
    text, keys, value = setting.text, setting.key.split("."), copy.deepcopy(setting.value)
    if not all(keys):
        raise InputError(text, "expected key.path=value", "such as --set buffer.policy=reactive")
    target: Any = data
    walked: KeyPath = ()
    for position, key in enumerate(keys):
        place = _place(target, key, text)
        if position == len(keys) - 1:
            target[place] = value
        elif isinstance(target, dict) and target.get(place) is None:
            target[place] = {}  # a section the file leaves to its defaults
        target, walked = target[place], (*walked, place)
    return Override(text, walked)


def _place(target: Any, key: str, text: str) -> str | int:
    """Return the key or index that `key` means in `target`."""
    if isinstance(target, dict):
        return key
    if not isinstance(target, list):
        raise InputError(
            text, f"{shown(target)} is a single value and has no key '{printable(key)}'", "shorten the path"
        )
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in target]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(target):
        return int(key)
    known = [*(name for name in names if name), f"0 to {len(target) - 1}"]
    raise InputError(
        text, f"no entry '{printable(key)}' in the list", nearest(key, names) or f"there are {', '.join(known)}"
    )
