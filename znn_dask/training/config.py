"""Training configuration files: read, override, validate, and explain in one line what is wrong."""

import copy
import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from znn_dask.training.config_example import example_config
from znn_dask.training.config_schema import Config, DataSection, VolumeEntry

__all__ = [
    "Config",
    "ConfigError",
    "apply_overrides",
    "example_config",
    "load_config",
    "parse_config",
]

# Tables in lists: their keys have a number in them.
_LISTS: dict[tuple[type[BaseModel], str], type[BaseModel]] = {
    (DataSection, "train"): VolumeEntry,
    (DataSection, "validation"): VolumeEntry,
}


class ConfigError(ValueError):
    """A configuration cannot be used; the message is one line."""


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Configuration from a TOML file, paths in it taken relative to the file.

    Args:
        path: the file.
        overrides: ``"section.key=value"`` texts, applied before validation.

    Raises:
        ConfigError: the file cannot be read or parsed, or says something that is not valid.
    """
    file = Path(path)
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: no such file; `znn-dask train --example` prints one to start from"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from error
    config = parse_config(apply_overrides(settings, overrides), source=str(file))
    config = _resolve(config, file.parent)
    network = config.network.file
    if network is not None and not Path(network).is_file():
        raise ConfigError(f'{file}: network.file = "{network}": no such file')
    return config


def parse_config(settings: Mapping[str, Any], source: str = "configuration") -> Config:
    """Validate settings; ``source`` begins the message of an error.

    Raises:
        ConfigError: names the key, its value, what is expected, and the nearest known key.
    """
    try:
        return Config.model_validate(dict(settings))
    except ValidationError as error:
        problems = error.errors(include_url=False)
    # A misspelt required key is unknown and missing at once: the unknown one says more.
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    message = _explain(first["type"], first["loc"], first["msg"], settings)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise ConfigError(f"{source}: {message}{more}")


def apply_overrides(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Copy of ``settings`` with ``"section.key=value"`` texts applied in order.

    Values are read as TOML; what is not TOML is text, so quotes may be left out. A number in a key
    picks a table of a list: ``data.train.0.volume=other.zarr``.

    Raises:
        ConfigError: an override has no ``=`` or goes through something that is no table.
    """
    result: dict[str, Any] = copy.deepcopy(dict(settings))
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"override {override!r}: expected section.key=value")
        place: Any = result
        for depth, part in enumerate(parts[:-1]):
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[int(part)]
            following = parts[depth + 1]
            if isinstance(place, dict):
                continue
            if not isinstance(place, list):
                raise ConfigError(
                    f"override {override!r}: {'.'.join(parts[: depth + 1])} = {_show(place)} "
                    f"is no table, so it has no {following}"
                )
            if not following.isdecimal() or int(following) >= len(place):
                raise ConfigError(
                    f"override {override!r}: {'.'.join(parts[: depth + 1])} is a list of "
                    f"{len(place)}; expected a number below {len(place)}, got {following}"
                )
        last: Any = int(parts[-1]) if isinstance(place, list) else parts[-1]
        place[last] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _resolve(config: Config, folder: Path) -> Config:
    def absolute(path: str | None) -> str | None:
        if path is None or "://" in path:
            return path
        return str((folder / Path(path).expanduser()).absolute())

    def volumes(entries: tuple[VolumeEntry, ...]) -> tuple[VolumeEntry, ...]:
        return tuple(e.model_copy(update={"volume": absolute(e.volume)}) for e in entries)

    network, data, training = config.network, config.data, config.training
    execution = config.execution
    paths = {"file": absolute(network.file), "seed_from": absolute(network.seed_from)}
    return config.model_copy(
        update={
            "network": network.model_copy(update=paths),
            "data": data.model_copy(
                update={"train": volumes(data.train), "validation": volumes(data.validation)}
            ),
            "training": training.model_copy(update={"folder": absolute(training.folder)}),
            "execution": execution.model_copy(update={"plan": absolute(execution.plan)}),
        }
    )


def _explain(kind: str, loc: tuple[int | str, ...], msg: str, settings: Mapping[str, Any]) -> str:
    if kind == "extra_forbidden":
        return _unknown(loc, _lookup(settings, loc))
    field, depth = _field(loc)
    key = ".".join(map(str, loc[:depth]))
    expected = field.description if field else "a table"
    if kind == "missing":
        return f"{key} is missing: expected {expected}"
    value = _lookup(settings, loc[:depth])
    if kind == "value_error" and _section(field):  # a rule about the section as a whole
        return f"[{key}]: {msg.removeprefix('Value error, ')}"
    hint = ""
    if kind == "literal_error":
        choices = str(expected).replace('"', "").replace(",", " ").split()
        close = difflib.get_close_matches(str(value).lower(), choices, 1)
        hint = f"; did you mean {_show(close[0])}?" if close else ""
    return f"{key} = {_show(value)}: expected {expected}{hint}"


def _section(field: FieldInfo | None) -> type[BaseModel] | None:
    inside = field.annotation if field else None
    return inside if isinstance(inside, type) and issubclass(inside, BaseModel) else None


def _unknown(loc: tuple[int | str, ...], value: Any) -> str:
    parent = ".".join(map(str, loc[:-1]))
    name = str(loc[-1])
    model = _model(loc[:-1])
    siblings = list(model.model_fields) if model else []
    message = f"unknown key {'.'.join(map(str, loc))} = {_show(value)}"
    for near in difflib.get_close_matches(name, siblings, 1):
        nearest = f"{parent}.{near}" if parent else near
        field = model.model_fields[near] if model else None
        return f"{message}; did you mean {nearest} ({field.description if field else ''})?"
    elsewhere = {key.rpartition(".")[2]: (key, field) for key, field in _known(Config)}
    for near in difflib.get_close_matches(name, elsewhere, 1):
        nearest, field = elsewhere[near]
        return f"{message}; did you mean {nearest} ({field.description})?"
    where = f"[{parent}]" if parent else "a configuration"
    return f"{message}; {where} knows {', '.join(siblings)}"


def _known(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        inside = _section(field)
        if inside is not None:
            yield from _known(inside, f"{prefix}{name}.")


def _model(loc: Sequence[int | str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Config
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        if (model, part) in _LISTS:
            model = _LISTS[model, part]
            continue
        model = _section(model.model_fields.get(part))
    return model


def _field(loc: tuple[int | str, ...]) -> tuple[FieldInfo | None, int]:
    """The innermost described field on the way of ``loc``, and how many parts lead to it."""
    for depth in range(len(loc), 0, -1):
        model, name = _model(loc[: depth - 1]), loc[depth - 1]
        if model is not None and isinstance(name, str) and name in model.model_fields:
            return model.model_fields[name], depth
    return None, len(loc)


def _lookup(settings: Any, loc: Sequence[int | str]) -> Any:
    for part in loc:
        try:
            settings = settings[part]
        except (KeyError, IndexError, TypeError):
            return None
    return settings


def _show(value: Any) -> str:
    """A value as it would stand in the file, shortened."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
