"""deploy/kubernetes: manifests that fit the operator, Kubernetes, and each other."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from machines import DEPLOY

FOLDER = DEPLOY / "kubernetes"
CHART = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator"
MODELS = {
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    ("batch/v1", "Job"): "V1Job",
}


@cache
def chart(name: str) -> Any:
    """A file of the operator's chart, as its package brings it."""
    file = metadata.distribution("dask-kubernetes").locate_file(f"{CHART}/{name}")
    return yaml.load(
        Path(str(file)).read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def closed(schema: Any) -> Any:
    """A schema that allows no key which it does not name: the API would drop it without a word."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    free = "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
    if isinstance(schema.get("properties"), dict) and not free:
        result["additionalProperties"] = False
    return result


@cache
def crd_validator() -> Draft7Validator:
    (version,) = chart("crds/daskcluster.yaml")["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    for name, kind in (("apiVersion", "string"), ("kind", "string"), ("metadata", "object")):
        schema["properties"].setdefault(name, {"type": kind})
    return Draft7Validator(schema)


def crd_errors(document: Any) -> list[str]:
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in crd_validator().iter_errors(document)
    ]


def test_the_cluster_fits_the_schema_of_the_operator() -> None:
    assert crd_errors(manifest("cluster.yaml")) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "worker", "replicas"), "two"),
        (("spec", "worker", "spec", "containers", 0, "imagePulPolicy"), "Always"),
        (("spec", "scheduler", "spec", "volumes", 0, "projected", "sources"), "znn"),
        (("spec", "scheduler", "service", "ports", 0, "port"), None),
    ],
)
def test_that_schema_finds_mistakes(path: tuple[Any, ...], value: Any) -> None:
    document = manifest("cluster.yaml")
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert crd_errors(document) != []


def model_errors(value: Any, kind: str, where: str = "") -> Iterator[str]:
    """What the models of the Kubernetes API, generated from its schema, do not know."""
    from kubernetes.client import models

    container = re.fullmatch(r"[Ll]ist\[(.+)\]|[Dd]ict\[str, (.+)\]", kind)
    if container and container[1]:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for i, item in enumerate(value):
            yield from model_errors(item, container[1], f"{where}[{i}]")
    elif container:
        for key, item in value.items():
            yield from model_errors(item, container[2], f"{where}.{key}")
    elif hasattr(models, kind):
        model = getattr(models, kind)
        kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no {kind}"
            return
        for key, item in value.items():
            if key in kinds:
                yield from model_errors(item, kinds[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: {kind} has no such field"
    else:
        types = {"str": str, "int": int, "bool": bool, "float": float, "object": object}
        if not isinstance(value, types[kind]):
            yield f"{where}: {value!r} is no {kind}"


def core_documents() -> Iterator[tuple[str, Any]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            kind = document.get("apiVersion"), document.get("kind")
            if kind in MODELS:
                yield MODELS[kind], document


def test_the_other_objects_fit_the_api_of_kubernetes() -> None:
    found = list(core_documents())
    assert sorted(model for model, _ in found) == sorted(MODELS.values())
    for model, document in found:
        assert list(model_errors(document, model, model)) == []


def test_that_api_finds_mistakes() -> None:
    job = manifest("train.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    job["spec"]["backoffLimit"] = "often"
    assert list(model_errors(job, "V1Job", "job")) == [
        "job.spec.backoffLimit: 'often' is no int",
        "job.spec.template.spec.containers[0].volumeMount: V1Container has no such field",
    ]


def test_the_values_are_those_of_the_chart() -> None:
    ours, known = manifest("operator-values.yaml"), chart("values.yaml")
    assert ours.keys() <= known.keys()
    for key, value in ours.items():
        assert type(value) is type(known[key]), key


def pods() -> dict[str, Any]:
    cluster = manifest("cluster.yaml")["spec"]
    return {
        "scheduler": cluster["scheduler"]["spec"],
        "worker": cluster["worker"]["spec"],
        "train": manifest("train.yaml")["spec"]["template"]["spec"],
    }


@pytest.mark.parametrize("name", ["scheduler", "worker", "train"])
def test_pods_have_the_settings_the_certificates_and_no_rights(name: str) -> None:
    pod = pods()[name]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == {"/etc/znn-dask", "/data", "/tmp"}
    assert environment["DASK_CONFIG"] == "/etc/znn-dask"
    projected = volumes[mounts["/etc/znn-dask"]]["projected"]
    assert projected["sources"] == [
        {"configMap": {"name": "znn-settings"}},
        {"secret": {"name": "znn-certificates"}},
    ]
    assert projected["defaultMode"] == 0o440
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_all_say_the_same_name_and_port() -> None:
    cluster = manifest("cluster.yaml")
    address = f"tls://{cluster['metadata']['name']}-scheduler:8786"  # how the operator names it
    assert address in pods()["worker"]["containers"][0]["args"]
    assert address in pods()["train"]["containers"][0]["command"][-1]
    service = cluster["spec"]["scheduler"]["service"]
    assert service["selector"]["dask.org/cluster-name"] == cluster["metadata"]["name"]
    ports = {port["name"]: port["port"] for port in service["ports"]}
    names = {port["name"] for port in pods()["scheduler"]["containers"][0]["ports"]}
    assert ports == {"tcp-comm": 8786, "http-dashboard": 8787}
    assert {port["targetPort"] for port in service["ports"]} <= names


def test_threads_and_memory_of_a_worker_are_what_it_asks_for() -> None:
    (container,) = pods()["worker"]["containers"]
    given = dict(word.split("=", 1) for word in container["args"] if word.startswith("--"))
    resources = container["resources"]
    assert given["--nthreads"] == resources["requests"]["cpu"]
    limit = int(resources["limits"]["memory"].removesuffix("Gi"))
    # Dask ends a worker at 0.95 of its limit; before, not after, Kubernetes does.
    assert int(given["--memory-limit"].removesuffix("GiB")) < limit
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_what_the_operator_makes_of_the_cluster_fits_too() -> None:
    from dask_kubernetes.operator.controller import controller as operator

    document = manifest("cluster.yaml")
    name, spec = document["metadata"]["name"], document["spec"]
    given: dict[str, Any] = {"annotations": {}, "labels": document["metadata"]["labels"]}
    scheduler = operator.build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], **given)
    service = operator.build_scheduler_service_spec(name, spec["scheduler"]["service"], **given)
    worker = operator.build_worker_deployment_spec(
        f"{name}-default", "default", name, "0123456789", spec["worker"]["spec"], **given
    )
    for model, made in (
        ("V1Deployment", scheduler),
        ("V1Service", service),
        ("V1Deployment", worker),
    ):
        assert list(model_errors(made, model, model)) == []
    assert service["metadata"]["name"] == "znn-scheduler"
    labels = scheduler["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["DASK_WORKER_NAME"] == "znn-default-worker-0123456789"
    assert "--name=$(DASK_WORKER_NAME)" in container["args"]
    # Who may reach whom goes by these labels.
    allowed = manifest("network.yaml")["spec"]["podSelector"]["matchLabels"]
    for made in (scheduler, worker):
        assert allowed.items() <= made["spec"]["template"]["metadata"]["labels"].items()
