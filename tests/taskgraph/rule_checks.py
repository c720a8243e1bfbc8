"""What must hold of ZNN's rule at every event, whoever drives it."""

from znn_dask.taskgraph.rule import Job, JobState


def assert_released(finished: Job) -> None:
    assert finished.run is None
    assert finished.needs == ()
    assert finished.dependents == []


def check_start(ready: list[Job], taken: Job) -> None:
    """The job taken was ready, and nothing ready was to be preferred."""
    assert taken in ready
    privileged = [j for j in ready if j.type == 1 or j.forced]
    if taken in privileged:
        assert taken.priority == min(j.priority for j in privileged)
    else:
        assert not privileged, "a type-2 job was started in front of a type-1 job"
        assert taken.priority == min(j.priority for j in ready)


def assert_forced(jobs: list[Job]) -> None:
    """Whatever a type-1 job lacks, if it is type 2 only, has the urgency of that job."""

    def walk(waiting: Job, priority: tuple[int, ...]) -> None:
        missing = [need for need in waiting.needs if not need.finished]
        if any(need.type == 1 for need in missing):
            return
        for need in missing:
            if need.state is JobState.RUNNING:
                continue
            assert need.forced
            assert need.priority <= priority
            walk(need, priority)

    for each in jobs:
        if each.type == 1 and each.state is JobState.WAITING:
            walk(each, each.priority)
