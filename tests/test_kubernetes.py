"""The manifests in deploy/kubernetes: right by the schemas, and right with each other and with the code.

What Kubernetes itself has is validated by `kubernetes_validate`, which ships the schemas of its API, and strictly: a
key that the API does not know is an error.  `ServiceMonitor` and `ScaledObject` are validated by rules of our own,
which name the keys that we use and allow no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from testbed.commands.deployment import _EVERYWHERE
from testbed.deployment import external_scaler, tunnels
from testbed.deployment.cluster import Cluster, load
from testbed.deployment.reporter import REPORT_PORT
from testbed.emulation.processes.mesh import MESH_PORT
from testbed.emulation.processes.process_set import NOTIFY_PORT
from testbed.units import NS_PER_S

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.31", "1.37")
METRICS_PORT = int(_EVERYWHERE.rpartition(":")[2])


def _only(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of a mapping with these keys and no others."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
LABELS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}
META = _only({"name": {"type": "string", "pattern": "^[a-z0-9-]+$"}}, {"labels": LABELS})
DURATION = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
COUNT = {"type": "integer", "minimum": 0}
WINDOW = _only({"stabilizationWindowSeconds": COUNT})
OWN_RULES = {
    "ServiceMonitor": _only(
        {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": TEXT,
            "metadata": META,
            "spec": _only(
                {
                    "selector": _only({"matchLabels": LABELS}),
                    "endpoints": {
                        "type": "array",
                        "minItems": 1,
                        "items": _only({"port": TEXT}, {"path": TEXT, "interval": DURATION, "scrapeTimeout": DURATION}),
                    },
                }
            ),
        }
    ),
    "ScaledObject": _only(
        {
            "apiVersion": {"const": "keda.sh/v1alpha1"},
            "kind": TEXT,
            "metadata": META,
            "spec": _only(
                {
                    "scaleTargetRef": _only({"name": TEXT}, {"apiVersion": TEXT, "kind": TEXT}),
                    "triggers": {
                        "type": "array",
                        "minItems": 1,
                        "items": _only(
                            {"type": {"const": "external"}, "metadata": _only({"scalerAddress": TEXT})},
                            {"metricType": {"enum": ["AverageValue", "Value"]}},
                        ),
                    },
                },
                {
                    "pollingInterval": COUNT,
                    "minReplicaCount": COUNT,
                    "maxReplicaCount": COUNT,
                    "fallback": _only({"failureThreshold": COUNT, "replicas": COUNT}),
                    "advanced": _only(
                        {
                            "horizontalPodAutoscalerConfig": _only(
                                {"behavior": _only({"scaleUp": WINDOW, "scaleDown": WINDOW})}
                            )
                        }
                    ),
                },
            ),
        }
    ),
    "Kustomization": _only(
        {"apiVersion": {"const": "kustomize.config.k8s.io/v1beta1"}, "kind": TEXT, "resources": {"type": "array"}},
        {"configMapGenerator": {"type": "array"}, "images": {"type": "array"}, "patches": {"type": "array"}},
    ),
}


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if "kind" in document:  # else it is a file of ours, or the values of a chart
                name = document.get("metadata", {}).get("name", "")
                yield f"{path.relative_to(FOLDER)}:{document['kind']} {name}".strip(), document


DOCUMENTS = dict(_documents())


def _of(kind: str, name: str) -> dict[str, Any]:
    return next(d for d in DOCUMENTS.values() if d["kind"] == kind and d["metadata"]["name"] == name)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return load(FOLDER / "base" / "cluster.yaml")


def _check(document: dict[str, Any], version: str = VERSIONS[-1]) -> None:
    if rules := OWN_RULES.get(document["kind"]):
        jsonschema.validate(document, rules)
    else:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_manifest_is_right_by_its_schema(name: str, version: str) -> None:
    _check(DOCUMENTS[name], version)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_key_that_there_is_not_would_be_found(name: str) -> None:
    document = DOCUMENTS[name]
    part = "spec" if "spec" in document else "resources"
    wrong = {**document, part: {**document["spec"], "nosuchkey": 1}} if part == "spec" else {**document, "nosuchkey": 1}

    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        _check(wrong)


def test_there_is_everything_that_is_promised() -> None:
    kinds = {document["kind"] for document in DOCUMENTS.values()}

    assert kinds >= {
        "StatefulSet", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor",
        "HorizontalPodAutoscaler", "ScaledObject",
    }  # fmt: skip


def test_kustomizations_name_what_there_is_and_all_of_it() -> None:
    named: set[Path] = set()
    for path in FOLDER.rglob("kustomization.yaml"):
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]
        named |= {(path.parent / resource).resolve() for resource in listed}

    assert [path for path in named if not path.exists()] == []
    manifests = {path.resolve() for path in FOLDER.rglob("*.yaml")}
    other = {"kustomization.yaml", "cluster.yaml", "prometheus-adapter.yaml"}
    assert {path for path in manifests - named if path.name not in other} == set()


def _containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for document in DOCUMENTS.values():
        if document["kind"] in ("StatefulSet", "Deployment"):
            for container in document["spec"]["template"]["spec"]["containers"]:
                yield document["metadata"]["name"], container


def test_no_container_is_privileged_and_each_has_the_capabilities_it_uses() -> None:
    added = {}
    for owner, container in _containers():
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert "privileged" not in context
        added[owner, container["name"]] = context["capabilities"].get("add", [])

    assert added == {
        ("buffer", "node"): ["BPF", "NET_ADMIN", "PERFMON"],
        ("balancer", "balancer"): ["NET_ADMIN", "NET_RAW"],
        ("backend", "tunnels"): ["NET_ADMIN"],
        ("backend", "service"): [],
    }


def test_ports_are_those_that_the_code_listens_at(cluster: Cluster) -> None:
    ours = {
        "metrics": METRICS_PORT, "mesh": MESH_PORT, "notify": NOTIFY_PORT, "report": REPORT_PORT,
        "tunnel": tunnels.PORT, "scaler": external_scaler.PORT,
    }  # fmt: skip
    service = {"service-udp": cluster.spec.ports[0], "service-tcp": cluster.spec.ports[0]}
    stated = [port for _, container in _containers() for port in container.get("ports", ())]
    offered = [
        port for document in DOCUMENTS.values() if document["kind"] == "Service" for port in document["spec"]["ports"]
    ]

    assert {port["name"]: port["containerPort"] for port in stated} == ours
    assert {port["name"]: port["port"] for port in offered} == {**ours, **service}


def test_policies_let_through_what_the_members_send(cluster: Cluster) -> None:
    let = {
        document["metadata"]["name"]: {port["port"] for rule in document["spec"]["ingress"] for port in rule["ports"]}
        for document in DOCUMENTS.values()
        if document["kind"] == "NetworkPolicy"
    }

    assert let == {
        "node": {tunnels.PORT, MESH_PORT, METRICS_PORT},
        "balancer": {
            tunnels.PORT, NOTIFY_PORT, REPORT_PORT, METRICS_PORT, external_scaler.PORT, *cluster.spec.ports
        },
        "backend": {tunnels.PORT},
    }  # fmt: skip


def test_members_are_found_by_services_that_there_are(cluster: Cluster) -> None:
    services = {d["metadata"]["name"] for d in DOCUMENTS.values() if d["kind"] == "Service"}

    assert cluster.host_of("n7") == "buffer-7.buffer"
    assert {"buffer", cluster.spec.balancer_host, cluster.spec.backend_host} <= services
    assert _of("StatefulSet", "buffer")["spec"]["serviceName"] == "buffer"


def test_autoscalers_have_the_bounds_of_the_policy(cluster: Cluster) -> None:
    bounds = cluster.spec.autoscaler.min_nodes, cluster.spec.autoscaler.max_nodes
    hpa, keda = _of("HorizontalPodAutoscaler", "buffer")["spec"], _of("ScaledObject", "buffer")["spec"]

    assert (hpa["minReplicas"], hpa["maxReplicas"]) == bounds
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == bounds
    assert cluster.spec.nodes == bounds[1]
    assert keda["triggers"][0]["metadata"]["scalerAddress"] == f"{cluster.spec.balancer_host}:{external_scaler.PORT}"


def test_a_node_has_time_to_drain(cluster: Cluster) -> None:
    buffer = cluster.spec.buffer.max_bytes * 8 / cluster.spec.rate
    drains_s = cluster.spec.autoscaler.drain_deadline_ns / NS_PER_S + buffer

    grace_s = _of("StatefulSet", "buffer")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > drains_s + 10
