"""What must be the same on two machines for a trial to be the same on both.

A simulated trial depends on the code of the testbed, of numpy and of the plug-ins, so those must be equal; Python need
be of the same minor version.  Files that a scenario names (plug-ins, traces, a model) travel with each trial.  Plug-ins
that are installed as packages do not: they are compared by the hashes of their files.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np

import testbed
from testbed.errors import TestbedError
from testbed.scenario import plugins as plugged

_WORDS = {"testbed": "testbed", "code": "the code of the testbed", "python": "Python", "numpy": "numpy"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What a machine runs trials with.

    Attributes:
        testbed: its version.
        code: the hash of its Python files.
        python: minor version.
        numpy: version.
        plugins: the hash of each installed plug-in by its name.
        failed: why the installed plug-ins cannot be loaded; empty where they can.
    """

    testbed: str
    code: str
    python: str
    numpy: str
    plugins: Mapping[str, str]
    failed: str = ""

    @property
    def digest(self) -> str:
        """Return a short text that is the same for equal machines."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:12]

    def differences(self, other: Identity) -> list[str]:
        """Return in what another machine differs from this one, in words."""
        named = [field.name for field in fields(self) if field.name in _WORDS]
        pairs = ((_WORDS[name], getattr(self, name), getattr(other, name)) for name in named)
        found = [f"{words} {theirs} (here {ours})" for words, ours, theirs in pairs if ours != theirs]
        return [*found, *self._plugin_differences(other)]

    def _plugin_differences(self, other: Identity) -> Iterator[str]:
        if other.failed:
            yield other.failed
        for name in sorted({*self.plugins, *other.plugins}):
            ours, theirs = self.plugins.get(name), other.plugins.get(name)
            if ours != theirs:
                lacks = "not installed there" if theirs is None else "not installed here" if ours is None else ""
                yield f"the plug-in {name} is {lacks or 'another one there'}"


def identity() -> Identity:
    """Return what this machine runs trials with."""
    failed, found = "", {}
    try:
        found = {plugin.path.name: plugin.sha256[:12] for plugin in plugged.load_installed()}
    except TestbedError as error:
        failed = str(error)
    python = ".".join(platform.python_version_tuple()[:2])
    return Identity(testbed.__version__, _code(), python, np.__version__, found, failed)


@cache
def _code() -> str:
    """Return the hash of the Python files of the testbed, `controllers` and `topologies` included."""
    root, state = Path(testbed.__file__).resolve().parent, hashlib.sha256()
    folders = [root, *sorted(path for path in root.iterdir() if path.is_symlink() and path.is_dir())]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py") if "skeletons" not in path.parts):
        state.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()[:12]
