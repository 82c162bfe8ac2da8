"""What tests of plug-ins share: a plug-in beside a scenario, and none that outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from testbed.scenario import plugins


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """For whoever imports it."""
    yield
    plugins.forget([plugin.path for plugin in plugins.loaded()])


def writer(folder: Path, scenario: Mapping[str, object]) -> Callable[..., Path]:
    """Return a function that writes a plug-in and a changed scenario beside it, and returns the scenario's path."""

    def write(source: str, **changes: object) -> Path:
        (folder / "own.py").write_text(source)
        path = folder / "small.yaml"
        path.write_text(yaml.safe_dump({**scenario, **changes}))
        return path

    return write
