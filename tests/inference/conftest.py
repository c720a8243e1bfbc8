"""Fixtures of the prediction tests."""

import pytest
from prediction_reference import Watched, prediction


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    """Predictions of this test are counted."""
    Watched.reset()
    monkeypatch.setattr(prediction, "ForwardPass", Watched)
    return Watched
