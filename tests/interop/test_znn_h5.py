"""ZNN's .h5 networks: what they hold, and that training from them goes where ZNN went."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from plain_pass import PlainPass

from znn_dask.interop.znn_h5 import ZnnFile, read_znn_h5, write_znn_h5
from znn_dask.kernels.layout import map_from_znn
from znn_dask.kernels.losses import loss
from znn_dask.network.graph import Network

PATCH = "processing/znn/train/patch"


def _patch(path: Path, *names: str) -> list[np.ndarray]:
    with h5py.File(path) as file:
        return [map_from_znn(file[f"{PATCH}/{name}"][()], np.float64) for name in names]


def test_checkpoint_gives_znns_own_result(shared: Path) -> None:
    path = shared / "znn/checkpoints/boundary_double.h5"
    saved = read_znn_h5(path)
    x, truth, props, grdts = _patch(
        path, "inputs/input", "lbls/output", "props/output", "grdts/output"
    )
    plain = PlainPass(saved.network, saved.parameters)
    outputs = plain.forward({"input": x})["output"]
    result = loss("softmax")(outputs, truth)
    np.testing.assert_allclose(result.prediction, props, rtol=0, atol=1e-15)
    np.testing.assert_allclose(result.gradient, grdts, rtol=0, atol=1e-15)
    assert saved.network.field_of_view == (1, 37, 37)
    assert {p.dtype for p in saved.parameters.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("k", range(1, 6))
def test_update_goes_where_znn_went(shared: Path, k: int) -> None:
    """Parameters and momenta after update k, from those before it and the patch of update k."""
    folder = shared / "znn/golden_training/affinity"
    before = read_znn_h5(folder / ("net_init.h5" if k == 1 else f"net_{k - 1}.h5"))
    after = read_znn_h5(folder / f"net_{k}.h5")
    x, truth, props, grdts, weights = _patch(
        folder / f"net_{k}.h5",
        *("inputs/input", "lbls/output", "props/output", "grdts/output", "weights"),
    )
    plain = PlainPass(before.network, before.parameters)
    outputs = plain.forward({"input": x})["output"]
    result = loss("binomial")(outputs, truth, weights)
    np.testing.assert_allclose(result.prediction, props, rtol=0, atol=2e-7)
    np.testing.assert_allclose(result.gradient, grdts, rtol=0, atol=2e-7)
    # ZNN reports the loss without weights, per element
    unweighted = loss("binomial")(outputs, truth)
    reported = after.curves["train"]
    assert unweighted.value / truth.size == pytest.approx(reported["err"][-1], rel=1e-6)
    assert unweighted.wrong / truth.size == pytest.approx(reported["cls"][-1])
    assert reported["it"][-1] == k

    plain.set_momenta(before.momenta)
    eta = float(dict(after.network.node("output").options)["eta"])
    plain.update(plain.backward({"output": result.gradient}), eta, 0.9, 0)
    for name, expected in after.parameters.items():
        np.testing.assert_allclose(plain.parameter(name), expected, rtol=0, atol=2e-7)
        np.testing.assert_allclose(plain.momentum(name), after.momenta[name], rtol=0, atol=2e-8)


def test_network_is_that_of_the_file(shared: Path) -> None:
    saved = read_znn_h5(shared / "znn/golden_training/affinity/net_3.h5")
    net = saved.network
    assert [n.name for n in net.topological] == ["input", "n1", "p1", "n2", "output"]
    assert [e.name for e in net.edges] == ["conv1", "pool1", "conv2", "conv3"]
    assert net.node("n2").function_args == (1.7159, 0.6666)
    assert net.edge("pool1").stride == (1, 2, 2)
    assert {name: p.shape for name, p in saved.parameters.items()} == net.parameter_shapes()
    assert len(saved.curves["train"]["err"]) == 3


def _example() -> ZnnFile:
    net = (
        Network()
        .input("input", 2)
        .conv("c1", 3, size=(2, 3, 5), function="tanh", init="xavier")
        .max_filter("m1", size=(1, 2, 2), stride=(1, 2, 2))
        .conv("c2", 1, size=(1, 1, 1), function="linear", init="zero")
    )
    rng = np.random.default_rng(0)
    arrays = [
        {n: rng.normal(size=s).astype(np.float32) for n, s in net.parameter_shapes().items()}
        for _ in range(2)
    ]
    curve = {"it": np.array([1, 2]), "err": np.array([0.5, 0.4]), "cls": np.array([0.2, 0.1])}
    return ZnnFile(net, *arrays, curves={"train": curve}, elapsed=1.5)


def _assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
        assert array.dtype == other[name].dtype


def test_round_trip(tmp_path: Path) -> None:
    written = _example()
    write_znn_h5(tmp_path / "net.h5", written)
    saved = read_znn_h5(tmp_path / "net.h5")
    _assert_equal(saved.parameters, written.parameters)
    _assert_equal(saved.momenta, written.momenta)
    _assert_equal(saved.curves["train"], written.curves["train"])
    assert saved.elapsed == 1.5
    assert saved.network.sizes((2, 3, 4)) == written.network.sizes((2, 3, 4))
    assert list(tmp_path.iterdir()) == [tmp_path / "net.h5"]


def test_kernel_bytes_are_first_axis_fastest(tmp_path: Path) -> None:
    written = _example()
    write_znn_h5(tmp_path / "net.h5", written)
    with h5py.File(tmp_path / "net.h5") as file:
        stored = file["processing/znn/train/network/c1/filters"][()]
    kernel = written.parameters["c1.filters"]
    assert stored.shape == kernel.shape
    np.testing.assert_array_equal(stored[1, 2].ravel(), kernel[1, 2].ravel(order="F"))


def test_znns_own_file_is_written_as_it_was(shared: Path, tmp_path: Path) -> None:
    source = shared / "znn/golden_training/affinity/net_3.h5"
    write_znn_h5(tmp_path / "net.h5", read_znn_h5(source))
    with h5py.File(source) as original, h5py.File(tmp_path / "net.h5") as copy:
        for part in ("network", "statistics"):
            there, here = (f[f"processing/znn/train/{part}"] for f in (original, copy))
            names: list[str] = []
            there.visititems(lambda name, item, names=names: names.append(name))
            for name in names:
                if isinstance(there[name], h5py.Dataset):
                    value = there[name][()]
                    np.testing.assert_array_equal(here[name][()], value, err_msg=name)
                    assert here[name].dtype.kind == there[name].dtype.kind


def test_layers_at_the_root(tmp_path: Path) -> None:
    written = _example()
    write_znn_h5(tmp_path / "standard.h5", written)
    with h5py.File(tmp_path / "standard.h5") as old, h5py.File(tmp_path / "net.h5", "w") as new:
        for name in old["processing/znn/train/network"]:
            old.copy(f"processing/znn/train/network/{name}", new)
    saved = read_znn_h5(tmp_path / "net.h5")
    _assert_equal(saved.parameters, written.parameters)
    assert saved.curves == {}


def test_missing_momenta_are_zero(tmp_path: Path) -> None:
    written = _example()
    write_znn_h5(tmp_path / "net.h5", ZnnFile(written.network, written.parameters, {}))
    saved = read_znn_h5(tmp_path / "net.h5")
    assert not any(v.any() for v in saved.momenta.values())
    with h5py.File(tmp_path / "net.h5", "a") as file:
        del file["processing/znn/train/network/c1/momentum_vol"]
    assert not read_znn_h5(tmp_path / "net.h5").momenta["c1.filters"].any()


def test_errors_of_reading(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with pytest.raises(ValueError, match="no such file"):
        read_znn_h5(path)
    path.write_text("nodes input")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        read_znn_h5(path)
    h5py.File(path, "w").close()
    with pytest.raises(ValueError, match="no ZNN layers"):
        read_znn_h5(path)
    write_znn_h5(path, _example())
    with h5py.File(path, "a") as file:
        layer = file["processing/znn/train/network/c1"]
        del layer["filters"]
    with pytest.raises(ValueError, match=r"net\.h5: layer 'c1' has no filters"):
        read_znn_h5(path)
    with h5py.File(path, "a") as file:
        file["processing/znn/train/network/c1/filters"] = np.zeros((2, 3, 2, 3, 3))
    with pytest.raises(ValueError, match=r"\(2, 3, 2, 3, 3\).*\(2, 3, 2, 3, 5\)"):
        read_znn_h5(path)


def test_errors_of_writing_leave_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    good = _example()
    write_znn_h5(path, good)
    bytes_before = path.read_bytes()
    without = {n: p for n, p in good.parameters.items() if n != "c1.filters"}
    with pytest.raises(ValueError, match=r"'c1.filters' is missing; give an array of \(2, 3, 2, 3"):
        write_znn_h5(path, ZnnFile(good.network, without, {}))
    with pytest.raises(ValueError, match="no parameter 'other'"):
        write_znn_h5(path, ZnnFile(good.network, good.parameters, {"other": np.zeros(1)}))
    assert path.read_bytes() == bytes_before


def test_missing_h5py_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'znn-dask\[interop\]'"):
        read_znn_h5(tmp_path / "net.h5")
