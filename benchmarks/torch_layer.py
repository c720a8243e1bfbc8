"""PyTorch's milliseconds for one convolution layer, for an interpreter that has torch.

    TORCH_PYTHON benchmarks/torch_layer.py

Reads one layer per line, [[in, out], kernel, dilation, output] as JSON, and answers with [forward,
update] in milliseconds: an update is forward, backward to input and kernel, and SGD with momentum.
One thread unless $OMP_NUM_THREADS says otherwise. `benchmarks/convolution.py --torch` runs it.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import torch  # type: ignore[import-not-found,unused-ignore]


def milliseconds(step: Callable[[], object], rounds: int) -> float:
    step()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return min(taken) * 1e3


def layer(
    channels: list[int], kernel: list[int], dilation: list[int], output: list[int]
) -> list[float]:
    """[forward, update] in milliseconds."""
    size = [n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True)]
    conv = torch.nn.Conv3d(*channels, kernel, dilation=dilation, bias=False)
    x = torch.randn(1, channels[0], *size, requires_grad=channels[0] > 1)
    g = torch.randn(1, channels[1], *output)
    sgd = torch.optim.SGD(conv.parameters(), 1e-6, momentum=0.9)

    def update() -> None:
        conv(x).backward(g)
        sgd.step()
        sgd.zero_grad()
        x.grad = None

    with torch.no_grad():
        forward = milliseconds(lambda: conv(x), 3)
    return [forward, milliseconds(update, 3)]


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for line in sys.stdin:
        print(json.dumps(layer(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
