"""Numbers and names that the documents state in a sentence are those of the source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import testbed
from testbed import units
from testbed.controllers import replication
from testbed.emulation.cluster import ANNOUNCED_NS
from testbed.emulation.dataplane.xdp_abi import STAGE_SLOT_SHIFT
from testbed.engine import LONGEST_DRAIN_NS
from testbed.policies import cohorts, peers, sharing, slots
from testbed.policies.agreement import DISPUTE_NS
from testbed.policies.deflection import REPEAT_NS
from testbed.policies.readiness import KEEPALIVE_NS, SILENCE_NS
from testbed.records.written import FULL_ROWS, FULL_SLOTS
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.link_spec import LARGEST_FRAME_BYTES
from testbed.scenario.mesh import SMALL_MESH, MeshSpec
from testbed.scenario.objective import ObjectiveSpec
from testbed.scenario.tables import AUTOSCALER_POLICIES, TRAFFIC_SHAPES
from testbed.simulation.bounds import LARGEST_MESH
from testbed.simulation.engine import TICKED_NS
from testbed.simulation.network_model import NetworkModel
from testbed.traffic.frames import PLANNED_DSCP
from testbed.trials import service, windows
from testbed.units import NS_PER_MS, NS_PER_S, NS_PER_US
from tests.test_examples import GROUP

ROOT = Path(__file__).resolve().parent.parent
WORDS = {3: "three", 5: "five", 8: "eight"}


def text_of(name: str) -> str:
    """Return a document without its line breaks."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def ms(time_ns: float) -> str:
    return f"{time_ns / NS_PER_MS:g} ms"


def us(time_ns: float) -> str:
    return f"{time_ns / NS_PER_US:g} µs"


def of_replication() -> Iterator[tuple[str, str]]:
    lease, hung = ms(replication.LEASE_NS), ms(replication.HUNG_NS)
    yield "ARCHITECTURE.md", f"if nothing arrives for {hung}, the standby requests"
    yield "ARCHITECTURE.md", f"starts a lease of {lease}"
    yield "docs/glossary.md", f"renews a lease of {lease}; the standby takes over after {hung} without one"


def of_the_mesh() -> Iterator[tuple[str, str]]:
    spec = MeshSpec.model_validate({})
    large = spec.of_nodes(SMALL_MESH + 1)
    monitors = WORDS[spec.watchers]
    yield "ARCHITECTURE.md", f"sends a heartbeat every {ms(spec.heartbeat_ns)} to {monitors} monitors"
    yield "ARCHITECTURE.md", f"its state to all nodes every {ms(spec.sync_interval_ns)}."
    yield "ARCHITECTURE.md", f"With more than {SMALL_MESH} nodes, heartbeats are sent every {ms(large.heartbeat_ns)}."
    yield "ARCHITECTURE.md", f"are sent to {WORDS[spec.fanout]} randomly chosen nodes"
    yield "ARCHITECTURE.md", f"receives no heartbeat from a node for {ms(spec.silence_ns)}"
    yield "ARCHITECTURE.md", f"{ms(DISPUTE_NS)} after the second current monitor"
    yield "ARCHITECTURE.md", f"if they disagree, {ms(DISPUTE_NS)} after the second suspicion"
    yield "ARCHITECTURE.md", f"at most {LARGEST_MESH} nodes, unless the mesh gossips"
    yield "docs/glossary.md", f"Each node has {monitors} monitors by default"
    yield "ARCHITECTURE.md", f"an increase of its severity by {sharing.SEVERE_STEP} or more"
    yield "ARCHITECTURE.md", f"(1 − {peers.PEER_WEIGHT} × peers)"


def of_the_balancer() -> Iterator[tuple[str, str]]:
    yield "ARCHITECTURE.md", f"no notification from it for {ms(SILENCE_NS)}"
    yield "ARCHITECTURE.md", f"for the last {ms(SILENCE_NS // 2)}"
    yield "docs/glossary.md", f"has not notified for {ms(SILENCE_NS)}"
    yield "docs/glossary.md", f"at least every {ms(KEEPALIVE_NS)}"
    growing = slots.MIN_SLOTS // slots.SLOTS_A_NODE
    yield "ARCHITECTURE.md", f"one of {slots.MIN_SLOTS} slots (more with more than {growing} nodes)"
    more = f"(with more than {growing} nodes, at least {slots.SLOTS_A_NODE} entries per node)"
    yield "docs/glossary.md", f"One of {slots.MIN_SLOTS} entries of the switch's table {more}"
    yield "ARCHITECTURE.md", f"again after {REPEAT_NS // NS_PER_S} s in case the message was lost"
    yield "ARCHITECTURE.md", f"at every change and every {ms(ANNOUNCED_NS)}"


def of_engines() -> Iterator[tuple[str, str]]:
    model = NetworkModel()
    yield (
        "ARCHITECTURE.md",
        f"switch {us(model.switch_ns)}, node {us(model.node_ns)}, decision {us(model.decision_ns)}, "
        f"notification {us(model.notification_ns)}, flow-mod {ms(model.flow_mod_ns)}, detection of a port state "
        f"change {ms(model.port_ns)}, takeover by the standby {ms(model.takeover_ns)}",
    )
    yield "ARCHITECTURE.md", f"constant delay `hop_ns` ({us(model.hop_ns)}"
    yield "ARCHITECTURE.md", f"at most {LONGEST_DRAIN_NS // NS_PER_S} s"
    yield "ARCHITECTURE.md", f"for the first {TICKED_NS // NS_PER_S} s"
    yield "ARCHITECTURE.md", f"every {round((1 << STAGE_SLOT_SHIFT) / NS_PER_MS, 1)} ms interval"
    yield "ARCHITECTURE.md", f"more than {FULL_ROWS} nodes (or {FULL_SLOTS} slots)"
    yield "ARCHITECTURE.md", f"(DSCP {PLANNED_DSCP})"
    yield "ARCHITECTURE.md", f"Frames have {LARGEST_FRAME_BYTES} bytes at most"
    yield "ARCHITECTURE.md", f"With up to {cohorts.OWN_TICKS} nodes, each node is a cohort of its own"
    yield "docs/glossary.md", f"(up to {cohorts.OWN_TICKS} nodes)"


def of_defaults() -> Iterator[tuple[str, str]]:
    buffer, cost = BufferSpec.model_validate({}), ObjectiveSpec.model_validate({})
    least, most = buffer.min_bytes / 1e6, buffer.max_bytes / 1e6
    yield "README.md", f"({least:g} to {most:g} MB by default)"
    delay = f"{{target: {units.duration_text(cost.delay.target_ns)}, weight: {cost.delay.per_s}}}"
    weights = f"objective: {{loss: {cost.loss_ratio}, delay: {delay}, memory: {cost.memory_per_s}}}"
    yield "docs/cost.md", weights
    yield "docs/scenario.md", weights
    yield "docs/howto/serve.md", f"After {WORDS[service.MOST_FAILURES]} failed windows in a row"
    yield "docs/howto/serve.md", f"has written nothing for {WORDS[int(service.STILL_S / 60)]} minutes"
    yield "docs/howto/serve.md", f"beyond {windows.MAX_VERDICT_BYTES / 1e6:g} MB"
    needs = re.search(r"TESTBED_REQUIRE-([a-z,]+)", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert needs
    yield "CONTRIBUTING.md", f"`TESTBED_REQUIRE` (default: `{needs[1]}`)"


STATED = [*of_replication(), *of_the_mesh(), *of_the_balancer(), *of_engines(), *of_defaults()]


@pytest.mark.parametrize(("document", "stated"), STATED, ids=[stated[:50] for _, stated in STATED])
def test_a_document_states_the_number_of_the_source(document: str, stated: str) -> None:
    assert stated in text_of(document)


def test_readme_lists_every_verb() -> None:
    listed = re.findall(r"^\| `([a-z]+)\b", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed) == set(GROUP.commands)  # type: ignore[attr-defined]


def test_scenario_page_names_every_autoscaler_and_shape() -> None:
    page = text_of("docs/scenario.md")
    names = [*AUTOSCALER_POLICIES.names, *TRAFFIC_SHAPES.names]
    assert [name for name in names if not re.search(rf"[` ]{name}`", page)] == []


def test_every_alert_is_explained() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    page = (ROOT / "docs/howto/prometheus.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == alerts


SHORT = """\
# What does a run leave?
version: 1
name: short
duration: 200ms
topology: {family: single}
buffer: {policy: reactive}
traffic: [{name: base, from: c1, shape: constant, rate: 1Mbit}]
"""


def test_reading_page_names_every_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(SHORT, encoding="utf-8")
    testbed.simulate(testbed.load(tmp_path / "short.yaml"), out=tmp_path / "run")
    page = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
    left = [path.name + "/" * path.is_dir() for path in sorted((tmp_path / "run").iterdir())]
    assert [name for name in left if f"`{name}`" not in page] == []


def exists(name: str) -> bool:
    """Return whether a path is one of the project, of `testbed/` or of the emulation; a bare name may be anywhere."""
    places = (ROOT, ROOT / "testbed", ROOT / "testbed/emulation")
    pattern = name.replace("<kind>", "pause")
    return any(any(at.glob(pattern)) for at in places) or ("/" not in name and any((ROOT / "testbed").rglob(name)))


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/*<>.-]+\.(?:py|c|h|yaml))`", text)
    assert len(named) > 40
    assert [name for name in named if not exists(name)] == []
