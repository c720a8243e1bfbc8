"""A process that saves checkpoints is killed at random moments; nothing it reported is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from training_states import make_state

from znn_dask.training.checkpoint import best, latest, list_checkpoints, load_checkpoint

WRITER = """
import sys, time
from training_states import make_state
from znn_dask.training.checkpoint import latest, load_checkpoint, save_checkpoint

folder = sys.argv[1]
step = load_checkpoint(folder).step if latest(folder) else 0
while True:
    step += 1
    start = time.monotonic()
    save_checkpoint(folder, make_state(step, seed=step, validation_loss=100 / step), keep=2)
    print(step, time.monotonic() - start, flush=True)
"""


def write_and_kill(folder: Path, saves: float) -> int:
    """Run the writer, kill it ``saves`` saves after its first one; last step it reported."""
    project = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(project), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    )
    assert process.stdout is not None
    step, seconds = process.stdout.readline().split()
    time.sleep(saves * float(seconds))
    process.send_signal(signal.SIGKILL)
    reported = [line.split()[0] for line in process.stdout.read().splitlines()]
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return int([step, *reported][-1])


def test_killed_writers_lose_nothing(tmp_path):
    moments = random.Random(1)
    unfinished = 0
    for _ in range(5):
        last = write_and_kill(tmp_path, moments.uniform(0.1, 1.5))
        infos = list_checkpoints(tmp_path)
        unfinished += len(list(tmp_path.iterdir())) > len(infos)
        for info in infos:  # every committed one is whole
            state = load_checkpoint(info.path)
            expected = make_state(info.step, seed=info.step)
            for name, parameter in expected.parameters.items():
                assert state.parameters[name].tobytes() == parameter.tobytes()
        assert infos[-1].step >= last
        assert infos[-1].path == latest(tmp_path) == best(tmp_path)
    assert unfinished, "no writer was killed while it wrote: the test proves nothing"
