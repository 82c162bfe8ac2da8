"""What this machine offers a run and what it lacks, each finding with the command that fixes it.

    finding ─┬ kernel     what a run does to the kernel, tried
             ├ software   programs, libraries, frameworks
             ├ resources  how much of what is limited: files, terminals, processors, disk
             └ verdict    what a scenario will come to (`testbed.capacity`), measured by `doctor SCENARIO` alone

``diagnose`` tries things and never asks for versions to decide.  ``refuse_if_lacking`` turns what is missing into the
error a run ends with (status 3).
"""

from testbed.doctor.diagnosis import as_root, diagnose, refuse_if_lacking, refuse_without_root, to_record, worst
from testbed.doctor.finding import Finding, Status
from testbed.doctor.kernel import probing
from testbed.doctor.verdict import capacity, unmeasured

__all__ = [
    "Finding",
    "Status",
    "as_root",
    "capacity",
    "diagnose",
    "probing",
    "refuse_if_lacking",
    "refuse_without_root",
    "to_record",
    "unmeasured",
    "worst",
]
