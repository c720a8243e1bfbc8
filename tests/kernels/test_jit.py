"""Code for other processors than this one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from znn_dask.kernels.jit import Compiled, compile_function

PROGRAM = """
import hashlib, sys
import llvmlite.binding as llvm
import numpy as np
if sys.argv[1] == "plain":
    llvm.get_host_cpu_features = lambda: llvm.targets.FeatureMap()
    llvm.get_host_cpu_name = lambda: ""
from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import whole
from znn_dask.kernels.jit import registers
rng = np.random.default_rng(0)
bits = hashlib.sha256()
for algorithm, tile in (("direct", None), ("tiled", (6, 8, 1))):
    conv = make_convolution(
        algorithm, (12, 12, 12), (3, 3, 1), (1, 1, 1), (19, 17), np.float32, tile
    )
    block = whole(conv.output_size)
    X, W = conv.allocate_input_spectrum(), conv.allocate_kernel_spectrum()
    G = conv.allocate_gradient_spectrum()
    x = rng.standard_normal((*conv.input_size, 19)).astype(np.float32)
    w = rng.standard_normal((3, 3, 1, 19, 17)).astype(np.float32)
    g = rng.standard_normal((*conv.output_size, 17)).astype(np.float32)
    conv.input_spectrum(x, block, X)
    conv.kernel_spectrum(w, slice(0, 19), W)
    conv.gradient_spectrum(g, block, G)
    bits.update(np.ascontiguousarray(conv.output(conv.forward(X, W, block), block)))
    bits.update(np.ascontiguousarray(conv.input_gradient(G, W, block)))
    bits.update(np.ascontiguousarray(conv.kernel_gradient(X, G, slice(0, 19))))
print(registers().bytes, bits.hexdigest())
"""


def run(processor: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, processor],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
        timeout=120,
    )
    return result.stdout.split()


def test_bits_are_those_of_the_narrowest_registers():
    width, bits = run("plain")
    assert width == "16"
    assert bits == run("this")[1]


def weighted() -> Compiled:
    """Stores first + 10 second + 100 third where `to` points."""
    text = """
    define void @weighted(i64 %to, i64 %first, i64 %second, i64 %third) {
      %ten = mul i64 %second, 10
      %hundred = mul i64 %third, 100
      %some = add i64 %first, %ten
      %sum = add i64 %some, %hundred
      %target = inttoptr i64 %to to ptr
      store i64 %sum, ptr %target
      ret void
    }
    """
    return compile_function(text, ("to", "first", "second", "third"))


def test_every_way_to_call_puts_arguments_in_their_places():
    function, result = weighted(), np.zeros(1, np.int64)
    to = result.ctypes.data
    function(third=3, to=to, first=1, second=2)
    assert result[0] == 321
    call = function.bind("second", "to", first=-7, third=9)
    for second in (4, 5):
        call(second, to)
        assert result[0] == 893 + 10 * second
    function.given((5, 6))(to, 4)
    assert result[0] == 654
    assert function.given((5, 6)) is function.given((5, 6))


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match="fourth"):
        weighted().bind("to", first=1, second=2, third=3, fourth=4)
    with pytest.raises(ValueError, match="shorter"):
        weighted().bind("to", first=1, second=2, third=3)()
