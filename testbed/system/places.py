"""Where the project's own files lie: in the source tree, or beside the package when it was installed from a wheel.

The wheel (see ``setup.py``) carries ``bpf/`` and ``scenarios/`` as ``testbed/data/``; the source tree has both at its
root.  Nothing else in the project knows of the difference.
"""

from __future__ import annotations

from pathlib import Path

from testbed.errors import MachineError

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "data"


def root() -> Path:
    """Return the folder that holds ``bpf/`` and ``scenarios/``."""
    return _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent


def scenarios() -> Path:
    """Return the folder of the scenarios that come with the project."""
    return root() / "scenarios"


def step_library() -> Path:
    """Return where the compiled step of the simulation is, if it has been compiled."""
    return root() / "bpf" / "build" / "step.so"


def bpf_object(name: str) -> Path:
    """Return the compiled BPF program `name`, such as ``"node"``.

    Raises:
        MachineError: when it is not compiled; `installing.bpf` says how.
    """
    path = root() / "bpf" / "build" / f"{name}.bpf.o"
    if not path.is_file():
        raise MachineError(f"looking for the BPF program {name}", f"{path} does not exist", f"make -C {root() / 'bpf'}")
    return path
