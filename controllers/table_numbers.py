"""The numbers of the tables in the balancer's switch, in the order in which packets pass them."""

from __future__ import annotations

from enum import IntEnum


class Table(IntEnum):
    """The tables, in the order in which packets pass them."""

    CLASSIFY = 0
    PINS = 1
    HASH = 2
    SLOTS = 3
    LEARN = 4
    NODES = 5
    AGAIN = 6
    FORWARD = 7
    PLACED = 8
    TURN = 9
    PATHS = 10
