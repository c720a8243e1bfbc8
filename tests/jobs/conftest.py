import uuid
from collections.abc import Iterator

import fsspec
import pytest
from object_stores import forget_connections


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket on an S3 server of this process."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")  # for other processes
        # For this one, where file systems of another server of an earlier test may be cached.
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
        name = f"jobs-{uuid.uuid4()}"  # all servers of one process have the same buckets
        fsspec.filesystem("s3").mkdir(name)
        yield f"s3://{name}"
    server.stop()
    forget_connections()
