"""Placement: patches in proportion to threads, neighbours together, no more workers than pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from znn_dask.cluster.members import Member, host_of, merged, most_common
from znn_dask.cluster.placement import place


def worker(host: str, port: int, threads: int = 1, blas: str = "Haswell") -> Member:
    return Member(f"tcp://{host}:{port}", host, threads, {"blas": blas})


crews = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 8)), min_size=1, max_size=12).map(
    lambda found: [worker(host, i, threads) for i, (host, threads) in enumerate(found)]
)


@given(crews, st.integers(1, 30))
def test_every_patch_has_a_place_and_every_slot_a_patch(workers: list[Member], batch: int):
    found = place(workers, batch)
    assert len(found.places) == batch
    assert list(found.places) == sorted(found.places)
    assert set(found.places) == set(range(len(found.workers)))
    assert len(set(found.workers)) == len(found.workers) <= batch
    hosts = [host_of(address) for address in found.workers]
    assert len(set(hosts)) == sum(a != b for a, b in zip(["", *hosts], hosts, strict=False))


@given(crews, st.integers(1, 30))
def test_no_other_spread_makes_the_slowest_faster(workers: list[Member], batch: int):
    found = place(workers, batch)
    threads = {member.address: member.threads for member in workers}
    counts = [found.places.count(slot) for slot in range(len(found.workers))]
    used = [threads[address] for address in found.workers]
    longest = max(n / t for n, t in zip(counts, used, strict=True))
    most = sorted(threads.values(), reverse=True)[:batch]
    # Less time than that, and these workers have no room for the batch.
    assert sum(int(t * (longest - 1e-9)) for t in most) < batch


def test_the_order_in_which_workers_came_does_not_matter():
    workers = [worker(host, port) for port in range(3) for host in "ba"]
    assert place(workers, 6) == place(workers[::-1], 6)


def test_few_patches_go_to_the_most_threads_on_different_hosts():
    workers = [worker("a", 1), worker("a", 2, 4), worker("a", 3, 4), worker("b", 4, 4)]
    assert place(workers, 2).workers == ("tcp://a:2", "tcp://b:4")


def test_trainings_of_different_homes_keep_apart():
    workers = [worker("a", 1, 4), worker("b", 2, 4), worker("b", 3, 4), worker("c", 4, 8)]
    assert place(workers[:3], 1, home="tcp://b:3").workers == ("tcp://b:3",)
    assert place(workers[:3], 2, home="tcp://b:3").workers == ("tcp://a:1", "tcp://b:3")
    assert place(workers[:3], 1, home="tcp://gone:1") == place(workers[:3], 1)
    assert place(workers, 1, home="tcp://b:3").workers == ("tcp://c:4",)  # the most threads


@pytest.mark.parametrize(("exchange", "used"), [(0.0, 8), (0.3, 2), (10.0, 1)])
def test_no_more_workers_than_make_a_step_shorter(exchange: float, used: int):
    def estimate(threads: list[int], patches: list[int]) -> float:
        return max(patches) / 8 + exchange * (len(threads) - 1)

    workers = [worker("a", port) for port in range(8)]
    assert len(place(workers, 8, estimate).workers) == used  # type: ignore[arg-type]


def test_without_workers_there_is_no_place():
    with pytest.raises(ValueError, match="no workers"):
        place([], 1)


def test_libraries_of_most_threads_count():
    workers = [worker("a", 1), worker("b", 2, 3, "Zen"), worker("c", 3)]
    assert most_common(workers) == {"blas": "Zen"}
    assert most_common(workers[:1] + workers[2:]) == {"blas": "Haswell"}
    assert merged([{"blas": "Zen"}, {"blas": "Haswell", "numpy": "2"}, {"blas": "Zen"}]) == {
        "blas": "Haswell | Zen",
        "numpy": "2 | none",
    }
