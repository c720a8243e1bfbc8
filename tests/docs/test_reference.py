"""The pages that are written from the code are what the code says now."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from pages import DOCS

import znn_dask
from znn_dask.cli.app import app
from znn_dask.training.config_schema import Config

AGAIN = "the code has changed: run python docs/write_reference.py"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["command-line.md", "reference/configuration.md"])
def test_a_page_is_up_to_date(page: str) -> None:
    written = (DOCS / page).read_text(encoding="utf-8")
    assert script("write_reference").PAGES[page]() == written, AGAIN


def test_the_page_of_public_names_is_up_to_date() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    assert script("write_reference").python() == page, AGAIN
    assert sorted(re.findall(r"^::: znn_dask\.(\w+)$", page, re.MULTILINE)) == sorted(
        znn_dask.__all__
    )


def sections() -> dict[str, str]:
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))


def test_every_command_and_option_has_its_line() -> None:
    names = [name for name in app if not name.startswith("-")]
    assert list(sections()) == names
    for name in names:
        arguments = app[name].assemble_argument_collection()
        options = {option for argument in arguments for option in argument.names}
        for option in options:
            line = re.search(
                rf"^\* .*`.*{re.escape(option)}\b.*: \S", sections()[name], re.MULTILINE
            )
            assert line, f"{name} {option}: say in its docstring what it means"


def test_every_configuration_key_has_a_meaning() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    for key, meaning, default, expected in rows:
        assert expected, key
        assert default, key
        assert meaning.strip(), f"{key}: say in config_example.py what it means"
    listed = {key for key, *_ in rows}
    for section in script("write_reference")._sections(Config):
        plain = {k for k, f in section.model_fields.items() if not is_table(f.annotation)}
        assert plain <= listed


def is_table(annotation: object) -> bool:
    return "Section" in str(annotation) or "VolumeEntry" in str(annotation)


@pytest.mark.parametrize("name", znn_dask.__all__)
def test_a_public_name_says_what_it_is(name: str) -> None:
    text = getattr(znn_dask, name).__doc__ or ""
    assert text.strip(), name
    for style in ("Args:", "Raises:", "Returns:"):
        assert style not in text, f"{name}: sections of docstrings are underlined (numpy style)"


def test_pictures_of_the_explanation_are_small() -> None:
    figures = script("figures").FIGURES
    for name in figures:
        picture: Path = DOCS / "images" / name
        assert 1_000 < picture.stat().st_size < 100_000, name


@pytest.mark.parametrize("name", ["dense.svg", "schedule-znn.svg", "schedule-barriers.svg"])
def test_a_picture_is_what_the_package_draws_now(name: str) -> None:
    drawn = script("figures").FIGURES[name]()
    kept = (DOCS / "images" / name).read_text(encoding="utf-8")
    assert drawn == kept, "run python docs/figures.py"
