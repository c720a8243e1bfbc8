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
import sys
from training_states import make_state
from znn_dask.training.checkpoint import latest, load_checkpoint, save_checkpoint

folder = sys.argv[1]
step = load_checkpoint(folder).step if latest(folder) else 0
print("ready", flush=True)
while True:
    step += 1
    save_checkpoint(folder, make_state(step, seed=step, validation_loss=100 / step), keep=2)
    print(step, flush=True)
"""


def write_and_kill(folder: Path, seconds: float) -> int:
    """Run the writer, kill it so many seconds after it began to write; last step it reported."""
    project = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(project), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    reported = process.stdout.read().split()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return int(reported[-1]) if reported else 0


def test_killed_writers_lose_nothing(tmp_path):
    moments = random.Random(1)
    last = 0
    unfinished = 0
    for _ in range(6):
        last = max(last, write_and_kill(tmp_path, moments.uniform(0.1, 0.4)))
        names = {path.name for path in tmp_path.iterdir()}
        infos = list_checkpoints(tmp_path)
        unfinished += len(names) - len(infos)
        assert infos or last == 0
        for info in infos:  # every committed one is whole
            state = load_checkpoint(info.path)
            expected = make_state(info.step, seed=info.step)
            for name, parameter in expected.parameters.items():
                assert state.parameters[name].tobytes() == parameter.tobytes()
        if infos:
            assert infos[-1].step >= last
            assert infos[-1].path == latest(tmp_path) == best(tmp_path)
    assert last > 0
    assert unfinished > 0, "no writer was killed while it wrote: the test proves nothing"
