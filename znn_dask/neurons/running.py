"""Running a function over many things: on threads of this process, or on workers of Dask."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import count, islice
from typing import Any, TypeVar

from distributed import Client, as_completed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from znn_dask.neurons.errors import NeuronError
from znn_dask.taskgraph.machine import cores

T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 2
_AHEAD = 2
"""Tasks per thread that are handed out at a time, so that a volume's tasks never lie in memory."""

_run = count()


class Runner:
    """Maps functions over things, in any order, with a line of progress for each function.

    client: Dask client whose workers compute; None: threads of this process.
    """

    def __init__(self, client: Client | None = None, *, progress: bool = True) -> None:
        self._client = client
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not progress,
        )

    @property
    def elsewhere(self) -> bool:
        """Whether others than this process compute."""
        return self._client is not None

    def __enter__(self) -> "Runner":
        self._bars.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bars.stop()

    def map(self, name: str, function: Callable[[T], R], things: Iterable[T]) -> list[R]:
        """What `function` returns for each of `things`; raises NeuronError where one fails.

        An error or an interrupt lets what has begun finish, and begins no more.
        """
        todo = list(things)
        bar = self._bars.add_task(name, total=len(todo))
        results = []
        run = self._on_threads if self._client is None else self._on_dask
        with closing(run(name, function, todo)) as finished:
            for result in finished:
                results.append(result)
                self._bars.advance(bar)
        return results

    def _on_threads(self, name: str, function: Callable[[T], R], things: list[T]) -> Generator[R]:
        threads = cores()
        todo = iter(things)
        with ThreadPoolExecutor(threads, name) as pool:
            running: dict[Future[R], T] = {}
            while True:
                for thing in islice(todo, _AHEAD * threads - len(running)):
                    running[pool.submit(function, thing)] = thing
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    thing = running.pop(future)
                    error = future.exception()
                    if error is not None:
                        for other in running:
                            other.cancel()
                        raise _failure(name, thing, error) from error
                    yield future.result()

    def _on_dask(self, name: str, function: Callable[[T], R], things: list[T]) -> Generator[R]:
        client: Any = self._client
        attempt = next(_run)
        todo = iter(enumerate(things))
        running: dict[Any, T] = {}
        finished = as_completed(loop=client.loop, raise_errors=False)
        try:
            while True:
                room = _AHEAD * max(1, sum(client.nthreads().values())) - len(running)
                for number, thing in islice(todo, max(0, room)):
                    key = (f"neurons:{name}", id(self), attempt, number)
                    future = client.submit(function, thing, key=key, retries=_RETRIES, pure=False)
                    running[future] = thing
                    finished.add(future)
                if not running:
                    return
                future = next(finished)
                thing = running.pop(future)
                if future.status != "finished":
                    error = future.exception()
                    raise _failure(name, thing, error) from error
                yield future.result()
                future.release()
        finally:
            client.cancel(list(running))


def _failure(name: str, thing: object, error: BaseException) -> Exception:
    """The one line that a user gets; a missing package stays what it is."""
    if isinstance(error, ImportError):
        return error
    text = " ".join(str(error).split()) or "no message"
    return NeuronError(
        f"{name} {thing} failed with {type(error).__name__}: {text}; what is finished is kept: "
        "run again to continue"
    )
