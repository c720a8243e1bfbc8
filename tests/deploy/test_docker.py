"""deploy/docker: the compose file fits its specification, and the image what it says and runs.

compose_spec.json is the schema of the compose specification that docker-compose 1.29.2 brings
(Apache-2.0); it is older than the top-level `name`.
"""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from machines import CHECKOUT, DEPLOY

FOLDER = DEPLOY / "docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")


def compose_errors(document: Any) -> list[str]:
    file = Path(__file__).with_name("compose_spec.json")
    schema = json.loads(file.read_text(encoding="utf-8"))
    document = {key: value for key, value in document.items() if key != "name"}
    return [error.message for error in Draft7Validator(schema).iter_errors(document)]


def test_the_compose_file_fits_its_specification() -> None:
    assert compose_errors(COMPOSE) == []


def test_that_schema_finds_mistakes() -> None:
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    document["services"]["worker"]["comand"] = []
    document["services"]["jupyter"]["depends_on"] = {"scheduler": {"condition": "well"}}
    assert len(compose_errors(document)) == 2


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


def test_jupyter_does_not_start_without_a_token() -> None:
    assert COMPOSE["services"]["jupyter"]["environment"]["JUPYTER_TOKEN"].startswith(
        "${JUPYTER_TOKEN:?"
    )


@pytest.mark.parametrize("name", ["scheduler", "worker", "jupyter"])
def test_services_have_the_settings_the_certificates_and_no_rights(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["image"] == "znn-dask"
    assert "${CLUSTER:-../../cluster}:/etc/znn-dask:ro" in service["volumes"]
    assert "${DATA:-../../data}:/data" in service["volumes"]
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "${UID:-1000}:${GID:-1000}"
    assert service["healthcheck"]["test"][0] == "CMD"


def test_healthchecks_ask_the_ports_that_the_services_listen_on() -> None:
    for service in COMPOSE["services"].values():
        (port,) = re.findall(r"127\.0\.0\.1:(\d+)/", service["healthcheck"]["test"][-1])
        assert re.search(rf":{port}$|=({port})$", "\n".join(service["command"]), re.MULTILINE)


def test_the_paths_of_the_build_exist() -> None:
    build = COMPOSE["services"]["scheduler"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == CHECKOUT
    assert (context / build["dockerfile"]).samefile(FOLDER / "Dockerfile")


# --- the image ---


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_instructions_of_the_image_are_known_and_in_order() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "CMD"}
    found = instructions()
    assert {name for name, _ in found} <= known
    assert found[0][0] == "FROM"
    assert found[-1] == ("CMD", '["znn-dask", "--help"]')
    for name, rest in found:
        if name == "RUN":
            subprocess.run(["bash", "-n"], input=rest, text=True, check=True)


def test_the_image_is_slim_and_runs_as_nobody_special() -> None:
    found = instructions()
    last = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    assert all(rest.split()[0].endswith("-slim") for name, rest in found if name == "FROM")
    assert ("USER", "znn") in found[last:]
    assert "--uid 1000" in DOCKERFILE
    assert not re.search(r"apt-get|sudo|curl|--index-url", DOCKERFILE)


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    kept = {
        line.removeprefix("!")
        for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied) == kept
    assert all((CHECKOUT / source).exists() for source in copied)


def test_python_and_the_extras_of_the_image_are_ours() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (version,) = set(re.findall(r"^FROM python:(3\.\d+)-slim", DOCKERFILE, re.MULTILINE))
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    (extras,) = re.findall(r'"\.\[([a-z0-9,]+)\]"', DOCKERFILE)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
