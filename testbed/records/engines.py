"""The engines there are, a row each: what other packages must know of one without importing it.

To add an engine: a package with a class that is an `engine.Engine`, and its row here.
"""

from __future__ import annotations

from dataclasses import dataclass

EMULATION = "emulation"
SIMULATION = "simulation"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """What is known of an engine.

    Attributes:
        name: as a command line and a manifest have it.
        where: module and class, imported when a trial is to run.
        real_time: its clock is the machine's: it needs root and an able kernel, takes as long as the scenario says,
            and its figures depend on the machine's load.
        doc: one line for help texts.
    """

    name: str
    where: str
    real_time: bool
    doc: str


ENGINES = {
    row.name: row
    for row in (
        EngineRow(
            name=EMULATION,
            where="testbed.emulation.supervisor:Emulation",
            real_time=True,
            doc="real kernel, needs root",
        ),
        EngineRow(
            name=SIMULATION,
            where="testbed.simulation.engine:Simulation",
            real_time=False,
            doc="virtual time, deterministic for a given seed",
        ),
    )
}


def is_real_time(name: str) -> bool:
    """Return whether the clock of an engine is the machine's; one that is not known here is taken to be."""
    row = ENGINES.get(name)
    return row is None or row.real_time
