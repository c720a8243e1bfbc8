"""What the engines of a cluster did lately: the passes inside the granules that Dask shows."""

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from distributed import Client

from znn_dask.taskgraph.engine import process_engine
from znn_dask.taskgraph.timeline import Span


@dataclass(frozen=True)
class WorkerSpan:
    """One job on a worker.

    Attributes
    ----------
    worker
        Its address; workers of one process share an engine, which the first of them stands for.
    thread
        Thread of the worker's engine.
    start, end
        Seconds since 1970 by the clock of the worker's machine.
    kind, layer, block
        The typed task, such as "forward" of "conv1", block 0.
    type
        1 if the next job waits for it, 2 if it may fill a gap.
    forced
        Of type 2, and a job of type 1 waited for it.
    step
        The training step that it belongs to.
    """

    worker: str
    thread: int
    start: float
    end: float
    kind: str
    layer: str
    block: int
    type: int
    forced: bool
    step: int


def timeline(client: Client) -> list[WorkerSpan]:
    """The last jobs (some thousand) of every worker's engine, in the order of their starts.

    May be called at any time, also while a training runs: nothing waits for it.
    """
    found: list[WorkerSpan] = []
    seen = set()
    for worker, (process, offset, spans) in sorted(client.run(_engine_spans).items()):
        if process in seen:
            continue
        seen.add(process)
        for s in spans:
            (kind, layer, block), start, end = s.name, s.start + offset, s.end + offset
            what = (kind, layer, block, s.type, s.forced, s.step)
            found.append(WorkerSpan(worker, s.thread, start, end, *what))
    return sorted(found, key=lambda span: span.start)


def drawable(spans: Iterable[WorkerSpan]) -> list[Span]:
    """Spans for `znn_dask.report.schedule.span_gantt`: all threads of all workers are numbered."""
    ordered = list(spans)
    threads = sorted({(span.worker, span.thread) for span in ordered})
    number = {thread: i for i, thread in enumerate(threads)}
    return [
        Span(
            number[span.worker, span.thread],
            *(span.start, span.end, (span.kind, span.layer, span.block)),
            *(span.type, span.forced, span.step),
        )
        for span in ordered
    ]


def _engine_spans() -> tuple[tuple[str, int], float, list[Span]]:
    """Which process this is, what makes its clock the wall clock, and its engine's last jobs."""
    offset = time.time() - time.perf_counter()
    return (socket.gethostname(), os.getpid()), offset, process_engine().recent()
