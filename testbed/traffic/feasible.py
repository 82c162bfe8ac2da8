"""What can be said of a plan without making it: whether every source can be planned, and whether all of it fits.

Planning asks here first, so whatever `make_plan` would refuse is found by the checks of a scenario, too.  The numbers
of packets are those expected: exact for constant rates, the mean of a Poisson process for the others, given the bursts
of the seed.  Whether anything is sent at all is certain where a good hundred packets are expected; with fewer the plan
is quickly made, and is asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from testbed.errors import InputError
from testbed.records import packet_rows
from testbed.scenario.complaints import Complaint
from testbed.scenario.model import Scenario
from testbed.scenario.sources import OwnShapeSpec, SourceSpec, TraceSpec
from testbed.scenario.traffic_checks import traffic_checks
from testbed.traffic import shape
from testbed.traffic.traces import TraceFiles

SURELY_SOME = 100.0  # expected packets of a Poisson process; none of them come once in 10^43
SURELY_ONE = 2.0  # of a constant rate


def feasible(scenario: Scenario, files: TraceFiles) -> Iterator[Complaint]:
    """Yield why the traffic of a scenario cannot be planned; whether it is empty is left to `surely_sends`."""
    yield from traffic_checks(scenario)
    total = 0.0
    for index, source in enumerate(scenario.traffic):
        if isinstance(source, SourceSpec):
            try:
                total += _expected(source, scenario, files)
            except InputError as error:
                key = ("trace",) if isinstance(source, TraceSpec) else ()
                yield Complaint(("traffic", index, *key), error.happened, error.remedy)
    if total > shape.MAX_PACKETS:
        happened = f"about {total:,.0f} packets in total; the maximum is {shape.MAX_PACKETS:,}"
        yield Complaint(("traffic",), happened, "lower the rates, shorten the run or use larger packets")
    elif scenario.record_packets and total > packet_rows.MAX_PACKETS:
        happened = f"about {total:,.0f} packets would be recorded; the maximum is {packet_rows.MAX_PACKETS:,}"
        yield Complaint(("record_packets",), happened, "lower the rates, shorten the run, or set it to false")


def expected_pkts(scenario: Scenario, files: TraceFiles) -> float:
    """Return how many packets the plan of a scenario is expected to have.

    Raises:
        TestbedError: a source cannot be planned.
    """
    return sum(_expected(source, scenario, files) for source in scenario.planned)


def surely_sends(scenario: Scenario) -> bool:
    """Return whether some source sends a packet whatever the seed."""
    sources = (source for source in scenario.planned if not isinstance(source, TraceSpec | OwnShapeSpec))
    return any(
        shape.expected(source, scenario.duration_ns, scenario.seed)
        >= (SURELY_ONE if shape.shape_of(source).sends_evenly else SURELY_SOME)
        for source in sources
    )


def _expected(source: SourceSpec, scenario: Scenario, files: TraceFiles) -> float:
    if isinstance(source, TraceSpec) and source.replay == "packets":
        count = float(len(files.captured(source).t_ns))
    elif isinstance(source, TraceSpec):
        trace = files.for_run(source, scenario.duration_ns)
        count = float(np.sum(trace.n_bytes)) * source.rate_scale / source.packet_bytes
    else:
        count = shape.expected(source, scenario.duration_ns, scenario.seed)
    shape.check_count(source, count)
    return count
