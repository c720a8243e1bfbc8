"""Everything on S3: a server of its own on this machine, and workers in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from object_stores import forget_connections

from znn_dask.cluster.local import local_cluster
from znn_dask.data import importing, pyramid
from znn_dask.data.importing import import_image
from znn_dask.data.metadata import VolumeError
from znn_dask.data.precomputed import export_precomputed
from znn_dask.data.pyramid import build_pyramid
from znn_dask.data.volume import describe_array, open_array, open_volume
from znn_dask.network import zoo

fsspec = pytest.importorskip("fsspec")
moto = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """URL of an S3 server; the environment names it, as users do."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()
    forget_connections()


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest) -> str:
    """URL of an empty bucket."""
    name = request.node.name.replace("_", "-")[:60]
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@pytest.fixture
def stack(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 250, (30, 70, 80)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", values, photometric="minisblack")
    return values


def test_import_pyramid_and_export(tmp_path, bucket, stack):
    place = f"{bucket}/v.zarr"
    import_image(tmp_path / "s.tif", place, voxel_size=(30, 8, 8), progress=False)
    tifffile.imwrite(tmp_path / "l.tif", stack.astype("u2"), photometric="minisblack")
    import_image(tmp_path / "l.tif", place, "labels", progress=False)
    volume = open_volume(place)
    assert volume.names == ("image", "labels")
    assert volume.voxel_size == volume.metadata("labels").voxel_size == (30, 8, 8)
    np.testing.assert_array_equal(volume.image[...], stack)
    assert describe_array(open_array(f"{place}/image/1")).voxel_size == (30, 16, 16)
    with pytest.raises(VolumeError, match="already has 'image': use another name"):
        import_image(tmp_path / "s.tif", place, progress=False)
    import_image(tmp_path / "l.tif", place, overwrite=True, progress=False)
    assert open_volume(place).image.dtype == np.uint16
    export_precomputed(f"{place}/image", f"{bucket}/image.precomputed")
    import_image(f"{bucket}/image.precomputed", tmp_path / "back.zarr", progress=False)
    np.testing.assert_array_equal(open_volume(tmp_path / "back.zarr").image[...], stack)
    assert open_volume(tmp_path / "back.zarr").voxel_size == (30, 8, 8)
    import_image(f"{place}/labels", tmp_path / "back.zarr", "labels", progress=False)
    np.testing.assert_array_equal(open_volume(tmp_path / "back.zarr").labels[...], stack)


KILLED = """
import sys, time
from znn_dask.data import importing
progress = importing.Landing.progress
def slow(landing, group, done):
    progress(landing, group, done)
    if done == 3:
        print("half", flush=True)
        time.sleep(60)
importing.Landing.progress, importing.BOX_BYTES = slow, 1
importing.import_image(sys.argv[1], sys.argv[2], chunks=(5, 70, 80), progress=False)
"""


def test_a_killed_import_is_continued_and_never_looks_complete(
    tmp_path, bucket, stack, monkeypatch
):
    place = f"{bucket}/v.zarr"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s.tif"), place]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"half\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.raises(VolumeError):
        open_volume(place)
    with pytest.raises(VolumeError, match="did not finish: run it again"):
        open_array(f"{place}/image")
    written = []
    progress = importing.Landing.progress
    monkeypatch.setattr(importing, "BOX_BYTES", 1)
    monkeypatch.setattr(
        importing.Landing, "progress", lambda *a: (written.append(a), progress(*a))[1]
    )
    array = import_image(tmp_path / "s.tif", place, chunks=(5, 70, 80), progress=False)
    np.testing.assert_array_equal(array[...], stack)
    assert len(written) == 6 - 3
    assert list(zarr.open_group(f"{place}/image", mode="r").attrs) == ["ome"]


@pytest.mark.cluster
def test_workers_write_blocks_at_the_same_time(tmp_path, bucket, stack, monkeypatch):
    from znn_dask.data.volume import create_image

    values = np.kron(stack, np.ones((1, 2, 2), np.uint8))
    for place in (str(tmp_path / "v.zarr"), f"{bucket}/v.zarr"):
        array = create_image(place, "image", values.shape, "u1", (32, 32, 32), (30, 8, 8))
        array[...] = values
    monkeypatch.setattr(pyramid, "BLOCK_EDGE", 32)
    with local_cluster(2, workers=2, processes=True, dashboard=False) as client:
        count = build_pyramid(f"{bucket}/v.zarr/image", client=client)
    assert count == build_pyramid(tmp_path / "v.zarr" / "image") == 2
    for name in ("1", "2"):
        np.testing.assert_array_equal(
            open_array(f"{bucket}/v.zarr/image/{name}")[...],
            open_array(tmp_path / "v.zarr" / "image" / name)[...],
        )


@pytest.mark.slow
@pytest.mark.cluster
def test_train_predict_and_segment(tmp_path, bucket):
    """Volume, checkpoints, map on S3; predicted by processes, to the bits of this one."""
    from znn_dask.data.synthetic import synthetic_volume
    from znn_dask.data.volume import create_image
    from znn_dask.inference.predict import predict, prediction_status
    from znn_dask.segmentation import segment
    from znn_dask.training.trainer import Trainer

    place = f"{bucket}/v.zarr"
    image, labels = synthetic_volume((16, 48, 48), seed=1)
    for name, values in (("image", image), ("labels", labels)):
        create_image(place, name, values.shape, values.dtype)[...] = np.asarray(values)
    volume = open_volume(place)
    options = {"folder": f"{bucket}/checkpoints", "progress": False}
    Trainer(zoo.small3d(), volume, (4, 4, 4), **options).fit(2)
    trained = Trainer(zoo.small3d(), volume, (4, 4, 4), resume=options["folder"], **options)
    trained.fit(3)
    maps = {}
    with local_cluster(1, workers=2, processes=True, dashboard=False) as client:
        for name, who in (("here", None), ("there", client)):
            maps[name] = predict(
                options["folder"],
                f"{place}/image",
                f"{bucket}/{name}.zarr",
                client=who,
                block=(6, 19, 38),
                pyramid=False,
                progress=False,
            )
    assert prediction_status(maps["there"]).finished
    np.testing.assert_array_equal(open_array(maps["here"])[...], open_array(maps["there"])[...])
    segment(maps["here"], tmp_path / "objects.zarr", progress=False)
    assert describe_array(open_array(tmp_path / "objects.zarr")).axes == "zyx"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("s3://{}/absent.zarr", "is not a Zarr volume"),
        ("s3://no-such-bucket/v.zarr", "is not a Zarr volume"),
        ("s4://bucket/v.zarr", "fsspec knows no protocol s4://"),
    ],
)
def test_errors_are_one_line(endpoint, place, says):
    with pytest.raises(VolumeError, match=says) as caught:
        open_volume(place.format("nothing"))
    assert "\n" not in str(caught.value)
