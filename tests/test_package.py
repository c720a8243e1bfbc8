"""The package as a whole: its imports, public names, documents and settings."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import dask.config
import numpy as np
import pytest
import yaml

import znn_dask

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "znn_dask"

# Room -> rooms that its modules may import. Imports point one way: there is no cycle in here.
BELOW = {
    "network": set(),
    "kernels": set(),
    "taskgraph": {"kernels", "network"},
    "data": {"kernels", "network"},
    "cluster": {"taskgraph", "kernels", "network"},
    "report": {"taskgraph", "data", "kernels", "network"},
    "dashboard": {"report", "cluster", "taskgraph", "kernels", "network"},
    "training": {"dashboard", "cluster", "taskgraph", "data", "kernels", "network"},
    "inference": {"training", "dashboard", "cluster", "taskgraph", "data", "kernels", "network"},
    "jobs": {"inference", "training", "cluster", "taskgraph", "data", "kernels", "network"},
    "interop": {"taskgraph", "kernels", "network"},
    "segmentation": {
        *("inference", "training", "dashboard", "cluster", "taskgraph", "data"),
        *("kernels", "network"),
    },
    "display": {
        *("report", "segmentation", "training", "cluster", "taskgraph", "data"),
        *("kernels", "network"),
    },
    "neurons": {"segmentation", "report", "taskgraph", "data", "kernels", "network"},
}
# On top of the rooms whose objects it shows. Objects reach up to it, but in `_repr_..._` methods
# only: these run when a front end asks for a display, and what they return is only looked at, so
# nothing below depends on it.
DISPLAY = "znn_dask.display"
# Beside the command line, on top of all rooms: whole programs.
TOP = {"cli", "bench", "demo"}

# Room -> packages, besides the standard library, that it must not import.
FOREIGN = {
    "network": None,  # none at all
    "kernels": {"numpy", "pyfftw", "llvmlite", "numba"},
}


def modules() -> Iterator[tuple[str, Path, set[str]]]:
    """(room, path, modules that it imports), of every module but the package's own front door.

    Without what `_repr_..._` methods import from the display.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        found: set[str] = set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        shows = set(display_imports(tree))
        for node in ast.walk(tree):
            if node in shows:
                continue
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import in line {node.lineno}"
                found.add(str(node.module))
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        yield parts[0], path, found


def display_imports(tree: ast.Module) -> Iterator[ast.stmt]:
    """Imports from the display that stand in methods called `_repr_..._`."""
    for method in ast.walk(tree):
        if isinstance(method, ast.FunctionDef) and re.fullmatch(r"_repr_[a-z]+_", method.name):
            for node in method.body:
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith(DISPLAY):
                    yield node


def imported_packages(imports: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in imports}
    return tops - set(sys.stdlib_module_names) - {"znn_dask"}


def test_imports_point_one_way() -> None:
    for room, path, imports in modules():
        rooms = {name.split(".")[1] for name in imports if name.startswith("znn_dask.")} - {room}
        if room in TOP:
            continue
        assert room in BELOW, f"{path}: {room} is no known room"
        wrong = rooms - BELOW[room]
        assert not wrong, f"{path}: {room} imports {', '.join(sorted(wrong))}"


def test_the_rooms_have_no_cycle() -> None:
    ready: set[str] = set()
    while ready != BELOW.keys():
        free = {room for room, below in BELOW.items() if room not in ready and below <= ready}
        assert free, f"cycle among {', '.join(sorted(BELOW.keys() - ready))}"
        ready |= free


def test_network_and_kernels_know_no_cluster_and_no_files() -> None:
    for room, path, imports in modules():
        if room in FOREIGN:
            wrong = imported_packages(imports) - (FOREIGN[room] or set())
            assert not wrong, f"{path}: {room} imports {', '.join(sorted(wrong))}"


def test_the_task_graph_meets_dask_in_one_module() -> None:
    for room, path, imports in modules():
        if room == "taskgraph" and path.name != "dask_graph.py":
            wrong = imported_packages(imports) & {"dask", "distributed", "zarr"}
            assert not wrong, f"{path}: imports {', '.join(sorted(wrong))}"


def test_one_module_knows_the_graph_classes_of_dask() -> None:
    users = [path.name for _, path, imports in modules() if "dask._task_spec" in imports]
    assert users == ["dask_graph.py"]


@pytest.mark.parametrize("name", znn_dask.__all__)
def test_public_name(name: str) -> None:
    assert getattr(znn_dask, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train_everything'"):
        _ = znn_dask.train_everything


def test_what_is_tested_is_what_is_installed() -> None:
    try:
        installed = metadata.distribution("znn-dask")
    except metadata.PackageNotFoundError:
        pytest.skip("znn-dask is not installed; the checkout is tested")
    if "editable" in (installed.read_text("direct_url.json") or ""):
        pytest.skip("znn-dask is installed editable; the checkout is tested")
    place = Path(str(installed.locate_file("znn_dask")))
    assert Path(znn_dask.__file__).parent.samefile(place)
    assert (place / "py.typed").is_file()


# --- documents ---


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip(f"git cannot list the checkout: {listing.stderr.decode().strip()}")
    found = (CHECKOUT / name for name in listing.stdout.decode().split("\0") if name)
    return [path for path in found if path.is_file()]


def documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def blocks(document: Path, language: str) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_no_place_of_one_machine_in_tracked_files() -> None:
    places = re.compile("|".join(f"/{name}/" for name in ("work", "root", "home", "Users")))
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        for number, line in enumerate(text.splitlines(), 1):
            assert not places.search(line), f"{path.relative_to(CHECKOUT)}:{number}: {line}"


def test_links_lead_somewhere() -> None:
    for document in documents():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def commands() -> Iterator[tuple[str, list[str]]]:
    """(document, arguments) of every znn-dask command in a shell block."""
    for document in documents():
        for block in blocks(document, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.split(r"\s#|[>|&]", line)[0].split()
                while words and "=" in words[0]:
                    words = words[1:]
                if words[:1] == ["znn-dask"]:
                    yield document.name, words[1:]


def test_documented_commands_exist() -> None:
    cli = importlib.import_module("znn_dask.cli.app")
    seen = 0
    for document, words in commands():
        try:
            cli.app.parse_args(words, exit_on_error=False, print_error=False)
        except Exception as error:
            raise AssertionError(f"{document}: znn-dask {' '.join(words)}: {error}") from error
        seen += 1
    assert seen > 10


def test_documented_configurations_are_valid() -> None:
    from znn_dask.training.config import example_config, parse_config

    for document in documents():
        for block in blocks(document, "toml"):
            if "[training]" in block:
                parse_config(tomllib.loads(block), source=document.name)
    assert example_config() in blocks(CHECKOUT / "docs/reference/configuration.md", "toml")


def test_the_settings_for_clusters_are_those_of_the_local_one() -> None:
    from znn_dask.cluster.local import SETTINGS

    settings = yaml.safe_load((CHECKOUT / "deploy" / "dask.yaml").read_text(encoding="utf-8"))
    for key, value in SETTINGS.items():
        assert dask.config.get(key, config=settings) == value


def write_volume(path: Path) -> None:
    """A small volume.zarr with an image and its labels."""
    from znn_dask.data import create_image

    image, labels = znn_dask.synthetic_volume((40, 48, 48), seed=1)
    for name, values in (("image", image), ("labels", labels)):
        create_image(path, name, values.shape, values.dtype)[...] = np.asarray(values)


@pytest.mark.slow
def test_quick_start_of_the_readme(tmp_path: Path) -> None:
    quick, network = blocks(CHECKOUT / "README.md", "python")
    code = quick.replace("2_000", "3").replace("(16, 16, 16)", "(4, 4, 4)")
    assert code.count("3)") == 1
    assert "(4, 4, 4)" in code
    write_volume(tmp_path / "volume.zarr")
    script = tmp_path / "quickstart.py"
    script.write_text(f"{code}\n{network}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "adapted Rand error" in done.stdout
    assert znn_dask.read_znn(tmp_path / "mine.znn").field_of_view == (3, 14, 14)
