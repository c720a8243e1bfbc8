import pytest
from prediction_reference import DirectPass

from znn_dask import taskgraph


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taskgraph, "ForwardPass", DirectPass, raising=False)
