"""What installs a thing that is missing: `make` in the source tree, pip and apt where a wheel was installed.

Every remedy that installs something comes from here, so that all of them, and the README, say the same.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from testbed.system import places

DISTRIBUTION = "predictive-buffer-testbed"
# Where programs come from, unless a package has their name.
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "mnexec": "mininet", "libbpf": "libbpf1"}
_DISTRIBUTIONS = {"yaml": "pyyaml", "os_ken": "os-ken"}
# The target of make for each extra of setup.py.
_TARGETS = {
    **dict.fromkeys(("train", "evaluate", "bench", "onnx", "plot", "distributed"), "setup-test"),
    "ryu": "ryu",
    "scaler": "scaler",
}


def optional(name: str) -> str:
    """Return the command that installs what the extra `name` of ``setup.py`` needs."""
    return _make(_TARGETS[name]) or _pip(_requirements(name))


def packages(*names: str) -> str:
    """Return the command that installs Python packages a run needs, by the names they are imported by."""
    return _make("setup") or _pip([_DISTRIBUTIONS.get(name, name) for name in names])


def program(name: str) -> str:
    """Return the command that installs a program (or libbpf) that a run needs."""
    return _make("setup") or f"sudo apt-get install {package_of(name)}"


def package_of(name: str) -> str:
    """Return the package of the distribution that brings a program."""
    return "openvswitch-switch" if name.startswith(("ovs-", "ovsdb-")) else _PACKAGES.get(name, name)


def bpf() -> str:
    """Return the command that compiles the BPF programs."""
    return f"make -C {places.root() / 'bpf'}"


def _make(target: str) -> str:
    """Return the call of make, "" where there is no source tree."""
    tree = places.root()
    if not (tree / "Makefile").is_file():
        return ""
    return f"sudo make {target}" if _here() == tree else f"sudo make -C {tree} {target}"


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _pip(requirements: list[str]) -> str:
    quoted = (f"'{text}'" if set(text) & set("<>=!~ ") else text for text in requirements)
    return f"{os.fsdecode(sys.executable)} -m pip install {' '.join(quoted)}"


def _requirements(name: str) -> list[str]:
    """Return what an extra needs, as the installed package states it."""
    from importlib import metadata

    try:
        stated = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [name]
    marks = (f'extra == "{name}"', f"extra == '{name}'")
    return [text.partition(";")[0].strip() for text in stated if text.partition(";")[2].strip() in marks]
