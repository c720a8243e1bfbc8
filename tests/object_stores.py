"""What tests against object stores leave behind."""

import gc
import warnings

from s3fs import S3FileSystem


def forget_connections() -> None:
    """Close the sockets that file systems of a server that has stopped still hold."""
    S3FileSystem.clear_instance_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nobody else closes them
        gc.collect()
