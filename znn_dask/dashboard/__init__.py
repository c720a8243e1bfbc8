"""The page `/znn` of a Dask scheduler's dashboard: what trainings and predictions do.

    driver     training/publishing.py, inference/publishing.py ──channel──┐ an event a second
    workers    cluster/figures.py ──────────────────────heartbeats────────┤
    scheduler  preload ─> plugin ─> board ─> view ─> page, JSON, Prometheus

`board` keeps what arrived, `view` says what to show of it; both are plain Python. `preload` is what
a scheduler is started with.
"""
