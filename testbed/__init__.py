"""A network-emulation testbed for clusters of predictive buffers.

From Python: `load`, `run`, `simulate`, `sweep`, `open`; see `testbed.python`, which is imported when one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.python import Run, Sweep, load, run, simulate
    from testbed.python import open_run as open  # noqa: A004
    from testbed.python import sweep_file as sweep

__version__ = "0.1.0"
__all__ = ["Run", "Sweep", "load", "open", "run", "simulate", "sweep"]

_NAMES = {name: name for name in ("Run", "Sweep", "load", "run", "simulate")} | {
    "open": "open_run",
    "sweep": "sweep_file",
}


def __getattr__(name: str) -> Any:
    """Import the interface for Python when it is asked for: a verb's start shall not pay for it."""
    if name not in _NAMES:
        raise AttributeError(f"module 'testbed' has no attribute {name!r}")
    from testbed import python

    return getattr(python, _NAMES[name])
