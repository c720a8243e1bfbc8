"""What is compiled, compiled for ARM: to machine code only, as nothing of it runs here."""

import os
import subprocess
import sys

import pytest

PROGRAM = '''
import ctypes, platform, sys
import llvmlite.binding as llvm
import numpy as np

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
try:
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
except RuntimeError:
    sys.exit("no AArch64 target")
machine = target.create_target_machine(cpu="generic", opt=3)
platform.machine = lambda: "aarch64"
llvm.get_host_cpu_features = llvm.targets.FeatureMap

from znn_dask.kernels import jit

nothing = ctypes.CFUNCTYPE(None)(lambda: None)

def compile_function(text, arguments):
    """Compile for the other processor, and answer with a function that does nothing here."""
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.verify()
    (function,) = (f for f in module.functions if not f.is_declaration)
    print(function.name, len(machine.emit_object(module)))
    return jit.Compiled(ctypes.cast(nothing, ctypes.c_void_p).value, arguments)

jit.compile_function = compile_function
jit._enter = lambda count: lambda words: None

from znn_dask.kernels import denormals
from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import whole
from znn_dask.kernels.pooling import MaxFilter
from znn_dask.kernels.transfer import transfer

denormals._control()
for dtype in (np.float32, np.float64):
    for algorithm, channels, tile in (
        ("direct", (19, 17), None), ("direct", (1, 3), None), ("tiled", (19, 17), (6, 8, 1))
    ):
        kernel = (3, 3, 1)
        conv = make_convolution(algorithm, (12, 12, 12), kernel, (1, 1, 1), channels, dtype, tile)
        block = whole(conv.output_size)
        X, W = conv.allocate_input_spectrum(), conv.allocate_kernel_spectrum()
        G = conv.allocate_gradient_spectrum()
        conv.input_spectrum(np.zeros((*conv.input_size, channels[0]), dtype), block, X)
        conv.kernel_spectrum(np.zeros((*kernel, *channels), dtype), slice(0, channels[0]), W)
        conv.gradient_spectrum(np.zeros((*conv.output_size, channels[1]), dtype), block, G)
        conv.output(conv.forward(X, W, block), block)
        conv.input_gradient(G, W, block)
        conv.kernel_gradient(X, G, slice(0, channels[0]))
    x = np.zeros((4, 4, 4, 5), dtype)
    y, winners = MaxFilter((2, 2, 2), (1, 1, 1)).forward(x)
    MaxFilter((2, 2, 2), (1, 1, 1)).backward(y, winners, x.shape)
    for name in ("rectify_linear", "tanh", "logistics"):
        transfer(name).backward(x, transfer(name).forward(x, np.zeros(5, dtype)))
'''


def test_everything_compiles_for_arm():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ, timeout=250
    )
    if "no AArch64 target" in result.stderr:
        pytest.skip("this llvmlite compiles for no ARM")
    assert result.returncode == 0, result.stderr
    made = dict(line.split() for line in result.stdout.splitlines())
    assert {"exchange", "correlate", "plane_forward", "product", "maximum", "scatter"} <= {*made}
    assert all(int(size) > 0 for size in made.values())
