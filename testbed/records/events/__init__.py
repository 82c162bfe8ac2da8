"""The events and actions of the policies, from one place.

An *event* is a fact of the past handed to a policy; an *action* is a command a policy hands back.  Both are frozen
records of plain values.  What concerns many nodes at once is columnar: ``nodes`` names the rows and every other field
is an ``int64`` (or ``float64``) array of the same length.  An agent of the emulation holds one row, the simulation one
row for each node, and both run the same policy code.

`to_record` gives the JSON form written to ``events.jsonl``; `files.event_records` reads it back, so that any slice of a
recorded run is a unit test.
"""

from testbed.records.events.balancer import (
    DeadlineReached,
    FlowArrived,
    NameSiblings,
    Node,
    NodeJoined,
    NodeLeft,
    PlaceFlow,
    RemoveNode,
    RestoreNode,
    SetSlots,
)
from testbed.records.events.mesh import (
    HeartbeatHeard,
    SendHeartbeat,
    SendStates,
    SendSuspicions,
    States,
    StatesHeard,
    Suspicions,
    SuspicionsHeard,
)
from testbed.records.events.node import (
    ForecastMade,
    LimitGranted,
    Nodes,
    NodesNotified,
    NotifyBalancer,
    PeersAssessed,
    Readiness,
    RequestLimit,
    SetBufferLimit,
)
from testbed.records.events.record import (
    Action,
    Doc,
    Event,
    FiveTuple,
    Floats,
    Ints,
    LogEntry,
    Record,
    Short,
    columns_of,
    fields_of,
    names_of,
    recast,
    values_of,
)
from testbed.records.events.sample import MEASURED, SampleRow, TrafficSampled

__all__ = [
    "MEASURED",
    "Action",
    "DeadlineReached",
    "Doc",
    "Event",
    "FiveTuple",
    "Floats",
    "FlowArrived",
    "ForecastMade",
    "HeartbeatHeard",
    "Ints",
    "LimitGranted",
    "LogEntry",
    "NameSiblings",
    "Node",
    "NodeJoined",
    "NodeLeft",
    "Nodes",
    "NodesNotified",
    "NotifyBalancer",
    "PeersAssessed",
    "PlaceFlow",
    "Readiness",
    "Record",
    "RemoveNode",
    "RequestLimit",
    "RestoreNode",
    "SampleRow",
    "SendHeartbeat",
    "SendStates",
    "SendSuspicions",
    "SetBufferLimit",
    "SetSlots",
    "Short",
    "States",
    "StatesHeard",
    "Suspicions",
    "SuspicionsHeard",
    "TrafficSampled",
    "columns_of",
    "fields_of",
    "names_of",
    "recast",
    "values_of",
]
