"""Counter-based random numbers: every draw is a pure function of a readable key."""

import hashlib
import operator

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """Random generator that depends on nothing but `key`.

    Parts are integers of any size and sign, or strings; `("a", 1)`, `("a1",)` and `("a", "1")` are
    three different keys. The same key gives the same numbers on every machine, in every process
    and whatever was drawn before, so a resumed or repeated step is the same step.
    """
    digest = hashlib.blake2b(b"".join(map(_encode, key)), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _encode(part: int | str) -> bytes:
    """Prefix-free bytes of one key part: kind, length, content."""
    if isinstance(part, str):
        kind, content = b"s", part.encode()
    else:
        # numpy integers must hash as the Python integers they equal
        kind, content = b"i", str(operator.index(part)).encode()
    return kind + str(len(content)).encode() + b":" + content
