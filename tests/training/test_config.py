"""Configuration: the example, every error message, overrides, paths."""

import copy
import json
import tomllib
from pathlib import Path

import pytest

from znn_dask.training.config import (
    ConfigError,
    apply_overrides,
    example_config,
    load_config,
    parse_config,
)
from znn_dask.training.config_schema import Config
from znn_dask.training.optimizer import SGD

MINIMAL = {
    "network": {"zoo": "vd2d3d"},
    "data": {"train": [{"volume": "a.zarr"}]},
    "training": {"output_size": [1, 64, 64], "updates": 10},
    "optimizer": {"eta": 0.01},
}


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(apply_overrides(MINIMAL, overrides), source="config.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_minimal_has_every_default():
    config = parse_config(MINIMAL)
    assert config.training.output_size == (1, 64, 64)
    assert config.sgd == SGD(0.01)
    assert config.loss == "softmax"
    assert config.execution.memory_bytes is None
    assert config.data.validation == ()


def test_dictionary_round_trip_through_json():
    config = parse_config(apply_overrides(MINIMAL, ["data.train.0.region=[[0,1],[2,3],[4,5]]"]))
    again = parse_config(json.loads(json.dumps(config.to_dict())))
    assert again == config


def test_example_is_valid_and_shows_the_defaults(tmp_path):
    (tmp_path / "config.toml").write_text(example_config())
    (tmp_path / "network.znn").touch()
    config = load_config(tmp_path / "config.toml")
    assert config.data.validation[0].region == ((96, 128), (0, 512), (0, 512))
    settings = tomllib.loads(example_config())
    defaults = {
        (line.split("=")[0].strip("# "), line.split("=", 1)[1].split("#")[0].strip())
        for line in example_config().splitlines()
        if line.startswith("# ") and " = " in line
    }
    shown = {name for name, _ in defaults}
    for section, model in Config.model_fields.items():
        for name, field in model.annotation.model_fields.items():
            assert name in settings.get(section, {}) or name in shown, f"{section}.{name}"
            if name in shown and field.default is not None:
                value = json.dumps(field.default)
                assert (name, value) in defaults, f"{section}.{name} = {value}"
    assert set(type(config.data.train[0]).model_fields) <= shown | {"volume", "region"}


def test_paths_are_relative_to_the_file(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "net.znn").touch()
    (folder / "config.toml").write_text("""
        network = {file = "net.znn", seed_from = "/old"}
        data.train = [{volume = "../a.zarr"}, {volume = "s3://bucket/b.zarr"}]
        training = {output_size = "1, 64,64", updates = 10, folder = "out"}
        optimizer.eta = 1
    """)
    config = load_config(folder / "config.toml")
    assert config.network.file == str(folder / "net.znn")
    assert config.network.seed_from == "/old"
    assert Path(config.data.train[0].volume).resolve() == tmp_path / "a.zarr"
    assert config.data.train[1].volume == "s3://bucket/b.zarr"
    assert config.training.folder == str(folder / "out")
    assert config.optimizer.eta == 1.0
    changed = load_config(folder / "config.toml", ["training.folder=elsewhere"])
    assert changed.training.folder == str(folder / "elsewhere")


def test_unreadable_files(tmp_path):
    path = tmp_path / "config.toml"
    with pytest.raises(ConfigError, match=r"no such file; `znn-dask train --example` prints"):
        load_config(path)
    path.write_text("[network\n")
    with pytest.raises(ConfigError, match=r"config.toml: not TOML: .*line 1"):
        load_config(path)
    path.write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"config.toml: not UTF-8"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load_config(tmp_path)
    path.write_text(example_config())
    with pytest.raises(ConfigError, match=r'network.file = ".*network.znn": no such file'):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.ouput_size=[1,2,3]",
            "unknown key training.ouput_size = [1, 2, 3]; did you mean training.output_size "
            "(three positive integers [z, y, x])?",
        ),
        (
            "training.eta=0.1",
            "unknown key training.eta = 0.1; did you mean optimizer.eta (a positive number)?",
        ),
        ("trainig.updates=3", 'unknown key trainig = {"updates": 3}; did you mean training '
         "(a table [training])?"),
        (
            "data.train.0.volum=b.zarr",
            'unknown key data.train.0.volum = "b.zarr"; did you mean data.train.0.volume '
            "(the path or URL of a volume (.zarr))?",
        ),
        (
            "optimizer.xyzzy=1",
            "unknown key optimizer.xyzzy = 1; [optimizer] knows eta, momentum, weight_decay, "
            "anneal_factor, anneal_every",
        ),
        (
            "xyzzy=1",
            "unknown key xyzzy = 1; a configuration knows network, data, training, optimizer, "
            "execution",
        ),
        ("training.updates=-5", "training.updates = -5: expected a positive integer"),
        ("training.updates=1.5", "training.updates = 1.5: expected a positive integer"),
        ("training.updates=many", 'training.updates = "many": expected a positive integer'),
        ("training.updates=true", "training.updates = true: expected a positive integer"),
        *(
            (f"training.output_size={value}", f"training.output_size = {shown}: expected three "
             "positive integers [z, y, x]")
            for value, shown in [
                ("[1,2]", "[1, 2]"),
                ("[1,2,0]", "[1, 2, 0]"),
                ("[1,2,3.5]", "[1, 2, 3.5]"),
                ("1,2", '"1,2"'),
                ("7", "7"),
            ]
        ),
        ("training.seed=-1", "training.seed = -1: expected an integer of at least 0"),
        ("training.batch=0", "training.batch = 0: expected a positive integer"),
        ("training.keep=0", "training.keep = 0: expected a positive integer"),
        ("training.checkpoint_every=0", "training.checkpoint_every = 0: expected a positive "
         "integer"),
        ("training.validate_every=0", "training.validate_every = 0: expected a positive integer"),
        ("training.validation_patches=0", "training.validation_patches = 0: expected a positive "
         "integer"),
        ("training.early_stopping=-1", "training.early_stopping = -1: expected an integer of at "
         "least 0 (0: never stop early)"),
        ("training.folder=''", 'training.folder = "": expected the path or URL of a folder'),
        ("training.dtype=float16", 'training.dtype = "float16": expected "float32" or "float64"; '
         'did you mean "float64"?'),
        ("training.loss=binomal", 'training.loss = "binomal": expected "auto", "square", '
         '"square-square", "binomial", "softmax" or "binomial-malis"; did you mean "binomial"?'),
        ("data.target=3", 'data.target = 3: expected "boundary" or "affinity"'),
        ("data.preprocessing=symetric_rescale", 'data.preprocessing = "symetric_rescale": '
         'expected "standard2D", "standard3D", "symmetric_rescale" or "none"; did you mean '
         '"symmetric_rescale"?'),
        ("data.border=mirrored", 'data.border = "mirrored": expected "valid" or "mirror"; did you '
         'mean "mirror"?'),
        ("data.rebalance=false", 'data.rebalance = false: expected "none", "global" or "patch"'),
        ("data.augment=yes", 'data.augment = "yes": expected true or false'),
        ("data.augment=1", "data.augment = 1: expected true or false"),
        ("data.train=[]", "data.train = []: expected one or more tables [[data.train]], each with "
         "a volume"),
        ("data.train={volume='a'}", 'data.train = {"volume": "a"}: expected one or more tables '
         "[[data.train]], each with a volume"),
        ("data.train=[3]", "data.train = [3]: expected one or more tables [[data.train]], each "
         "with a volume"),
        ("data.train=[{}]", "data.train.0.volume is missing: expected the path or URL of a volume "
         "(.zarr)"),
        ("data.train.0.volume=3", "data.train.0.volume = 3: expected the path or URL of a volume "
         "(.zarr)"),
        ("data.train.0.mask=3", "data.train.0.mask = 3: expected the name of a mask in the volume"),
        *(
            (f"data.train.0.region={value}", f"data.train.0.region = {value}: expected three "
             "ranges [[z0, z1], [y0, y1], [x0, x1]] of voxels, each 0 <= start < stop")
            for value in ["[[0, 1], [0, 1]]", "[[0, 1], [0, 1], 1]", "[[0, 1], [0, 1], [1, 1]]",
                          "[[0, 1], [0, 1], [-1, 1]]", "[[0, 1], [0, 1], [0, 1.5]]", "3"]
        ),
        ("optimizer.eta=0", "optimizer.eta = 0: expected a positive number"),
        ("optimizer.eta=inf", "optimizer.eta = Infinity: expected a positive number"),
        ("optimizer.eta=fast", 'optimizer.eta = "fast": expected a positive number'),
        ("optimizer.momentum=1", "optimizer.momentum = 1: expected a number of at least 0 and "
         "below 1"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay = -1: expected a number of at least "
         "0"),
        ("optimizer.anneal_factor=2", "optimizer.anneal_factor = 2: expected a number above 0, at "
         "most 1"),
        ("optimizer.anneal_every=0", "optimizer.anneal_every = 0: expected a positive integer"),
        ("execution.threads=-1", "execution.threads = -1: expected an integer of at least 0 (0: "
         "all cores)"),
        ("execution.algorithm=FFT", 'execution.algorithm = "FFT": expected "auto", "direct", "fft" '
         'or "tiled"; did you mean "fft"?'),
        *(
            (f"execution.memory_limit={value}", f"execution.memory_limit = {shown}: expected "
             '"auto" or an amount such as "8 GiB"')
            for value, shown in [("8 XB", '"8 XB"'), ("0 GB", '"0 GB"'), ("8", "8")]
        ),
        ("network.zoo=3", "network.zoo = 3: expected the name of a network in the zoo"),
        ("network.output_function=sigmoid", 'network.output_function = "sigmoid": expected auto '
         "(what the loss needs), keep (what the network says) or one of linear, "
         "forward_logistics, logistics, tanh, soft_sign, rectify_linear"),
        ("network.file=a.znn", "[network]: give either file (a .znn file) or zoo (a name), got "
         "'a.znn' and 'vd2d3d'"),
        ("network={}", "[network]: give either file (a .znn file) or zoo (a name), got neither"),
        ("network=3", "network = 3: expected a table [network]"),
        ("training={updates=1}", "training.output_size is missing: expected three positive "
         "integers [z, y, x]"),
    ],
)  # fmt: skip
def test_every_error_is_one_line_with_key_value_and_expectation(override, expected):
    assert message(override) == f"config.toml: {expected}"


def test_a_missing_section():
    settings = {name: section for name, section in MINIMAL.items() if name != "optimizer"}
    with pytest.raises(ConfigError, match=r"^here: optimizer is missing: expected a table"):
        parse_config(settings, source="here")


def test_a_misspelt_required_key_is_named_before_the_missing_one():
    settings = copy.deepcopy(MINIMAL)
    settings["training"]["update"] = settings["training"].pop("updates")
    with pytest.raises(ConfigError, match=r"unknown key training.update = 10.*\(and 1 more\)$"):
        parse_config(settings)


def test_long_values_are_shortened():
    assert "..." in message(f"training.updates=[{','.join(['1'] * 100)}]")


def test_overrides_parse_toml_or_text_and_leave_the_original_alone():
    before = copy.deepcopy(MINIMAL)
    result = apply_overrides(
        MINIMAL,
        [
            "optimizer.eta=0.02",
            "training.output_size = [4, 8, 8]",
            "data.augment=false",
            "data.train.0.volume=other.zarr",
            "execution.memory_limit=8 GiB",
            "network.zoo='quoted = name'",
            "training.folder=a\nb = 3",
            "optimizer.eta=0.03",
        ],
    )
    assert before == MINIMAL
    assert result["optimizer"]["eta"] == 0.03
    assert result["training"]["output_size"] == [4, 8, 8]
    assert result["training"]["folder"] == "a\nb = 3"
    assert result["data"]["augment"] is False
    assert result["data"]["train"][0]["volume"] == "other.zarr"
    assert result["execution"] == {"memory_limit": "8 GiB"}
    assert result["network"]["zoo"] == "quoted = name"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.eta", "override 'optimizer.eta': expected section.key=value"),
        ("=3", "override '=3': expected section.key=value"),
        ("a..b=3", "override 'a..b=3': expected section.key=value"),
        ("optimizer.eta.x=3", "optimizer.eta = 0.01 is no table, so it has no x"),
        ("data.train.1.volume=x", "data.train is a list of 1; expected a number below 1, got 1"),
        ("data.train.volume=x", "data.train is a list of 1; expected a number below 1, got volume"),
    ],
)
def test_bad_overrides(override, expected):
    with pytest.raises(ConfigError) as caught:
        apply_overrides(MINIMAL, [override])
    assert str(caught.value).endswith(expected)
    assert "\n" not in str(caught.value)


def test_memory_in_bytes_and_auto_loss_of_affinities():
    config = parse_config(
        apply_overrides(MINIMAL, ["execution.memory_limit=8 GiB", "data.target=affinity"])
    )
    assert config.execution.memory_bytes == 8 * 2**30
    assert config.loss == "binomial"
    assert parse_config(apply_overrides(MINIMAL, ["training.loss=square"])).loss == "square"
