"""Colours: one for each policy, the same on every page and figure.

The eighteen colours were chosen, of a grid over hue, saturation and lightness, as those that stay furthest apart for
readers who see all colours, no red (protanopia) or no green (deuteranopia), among those with a contrast of at least
2.6 against white and against the dark background of the pages.  Not all readers can distinguish so many colours, so
a policy has a symbol, too.

Source: G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A physiologically-based model for simulation of color vision
deficiency", IEEE TVCG 15, 2009 (the matrices used for the choice).
"""

from __future__ import annotations

import zlib
from typing import Any

from testbed.registry import Registry
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES

COLOURS = (
    "#cc79a7", "#e8640c", "#900ce8", "#825a3e", "#f663f6", "#4f60a5",
    "#b99b6e", "#b82c09", "#c99090", "#a54f71", "#09b82c", "#6d53d4",
    "#82823e", "#5387d4", "#9090c9", "#cd33f4", "#d4536d", "#c33089",
)  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "pentagon", "star", "hexagon")
NEUTRAL = "#7b8794"  # for what is no series: a line of reference, all nodes together


def colour(number: int) -> str:
    """Return a colour for the series of that number; they repeat after eighteen."""
    return COLOURS[number % len(COLOURS)]


def symbol(number: int) -> str:
    """Return a marker for the series of that number, by Plotly's name; they repeat after ten."""
    return SYMBOLS[number % len(SYMBOLS)]


def policy_colour(name: str) -> str:
    """Return the colour of a policy of buffers or of the balancer, by its name alone."""
    return colour(_place(name))


def policy_symbol(name: str) -> str:
    """Return the symbol of a policy, by its name alone."""
    return symbol(_place(name))


def _place(name: str) -> int:
    """Return a number that a page made tomorrow, by whoever has other plug-ins, gives this policy, too."""
    for ours in (_ours(BUFFER_POLICIES), _ours(BALANCER_POLICIES)):
        if name in ours:
            return ours.index(name)
    return zlib.crc32(name.encode())


def _ours(table: Registry[Any]) -> list[str]:
    return [name for name in table.names if table.is_ours(name)]
