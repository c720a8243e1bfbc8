"""The words of the page: facts and headings as HTML, made of what `view` found."""

from html import escape
from typing import Any

from znn_dask.dashboard.quantities import duration, si


def summary(view: dict[str, Any]) -> str:
    """The line on top: what runs on what."""
    counts = [
        (sum(job["state"] == "running" for job in view["trainings"]), "training"),
        (sum(job["state"] == "running" for job in view["predictions"]), "prediction"),
    ]
    running = " and ".join(plural(n, word) for n, word in counts if n)
    threads = sum(worker["threads"] for worker in view["workers"])
    workers = sum(len(worker["workers"]) for worker in view["workers"])
    told = f"{plural(workers, 'worker')} with {plural(threads, 'thread')}" if workers else ""
    parts = [f"{running} running" if running else "nothing is running", told]
    text = " · ".join(part for part in parts if part)
    return f'<div class="top"><h1>ZNN</h1><span class="soft">{text}</span></div>'


def idle(address: str) -> str:
    """What to do where nothing runs."""
    address = escape(address)
    head = (
        "<h2>Nothing is running on this cluster</h2>"
        "<p>A training or prediction appears here as soon as it begins, with its learning curve, "
        "its speed, and what the workers do. "
    )
    work = (
        "trainer = znn_dask.Trainer(network, volume, output_size, client=client)\n"
        "trainer.fit(10_000)\n"
        'znn_dask.predict(trainer.checkpoint, "volume.zarr/image", "map.zarr", client=client)</pre>'
    )
    if address.startswith("inproc"):  # nobody outside reaches it
        return f"{head}Start one in the Python session that this cluster lives in</p><pre>{work}"
    return (
        f"{head}Start one from a shell</p>"
        f"<pre>znn-dask train config.toml --scheduler {address}\n"
        f"znn-dask predict checkpoints volume.zarr/image map.zarr --scheduler {address}</pre>"
        f'<p>or from Python</p><pre>client = distributed.Client("{address}")\n{work}'
    )


def training(job: dict[str, Any]) -> str:
    """Heading, facts and progress of a training."""
    facts = [
        (_number(job["step"]), f"of {_number(job['last'])}", "updates"),
        (_speed(job["updates_per_second"]), "/s", "updates"),
        (_speed(job["voxels_per_second"]), "/s", "output voxels"),
        (_loss(job["loss"]), "", f"training loss ({job['loss_name']})"),
        (_loss(job["validation_loss"]), "", "validation loss"),
    ]
    if job["best"] is not None:
        step, loss = job["best"]
        facts.append((_loss(loss), f"at {_number(step)}", "best validation"))
    facts.append((_left(job["seconds_left"]), "", "left"))
    note = "" if job["loss"] is not None else "the first update is being prepared"
    return _job(job, "training", job["folder"], facts, job["step"] / max(job["last"], 1), note)


def prediction(job: dict[str, Any]) -> str:
    """Heading, facts and progress of a prediction."""
    facts = [
        (_number(job["done"]), f"of {_number(job['blocks'])}", "blocks"),
        (_speed(job["voxels_per_second"]), "/s", "output voxels"),
        (" × ".join(str(n) for n in job["shape"]), "", "output, voxels z, y, x"),
        (" × ".join(str(n) for n in job["block"]), "", "block, voxels z, y, x"),
        (_left(job["seconds_left"]), "", "left"),
    ]
    if job["done_earlier"]:
        facts.insert(1, (_number(job["done_earlier"]), "blocks", "done by earlier runs"))
    return _job(job, "prediction", job["place"], facts, job["done"] / job["blocks"])


def ended(jobs: list[dict[str, Any]]) -> str:
    """A table of jobs that are over."""
    rows = "".join(
        f"<tr><td>{escape(job['title'])}</td><td>{escape(job['state'])}</td>"
        f'<td class="soft">{_reached(job)}</td><td class="soft">{escape(job["message"])}</td></tr>'
        for job in jobs
    )
    return f"<h2>Earlier</h2><table>{rows}</table>"


def workers(found: list[dict[str, Any]]) -> str:
    """Heading over what the workers do."""
    spectra = sum(sum(worker["spectra_bytes"].values()) for worker in found)
    return (
        '<div class="top"><h2>Workers</h2><span class="soft">over the last half a minute · '
        + (f"up to {si(spectra)}B in FFT caches" if spectra else "no FFT caches")
        + "</span></div>"
    )


def legend(title: str, colours: dict[str, str]) -> str:
    """The name of a picture and what its colours mean."""
    keys = "".join(
        f'<span class="item"><i style="background:{colour}"></i>{escape(name)}</span> '
        for name, colour in colours.items()
    )
    return f'<div class="legend"><b class="sub">{escape(title)}</b> {keys}</div>'


def _job(
    job: dict[str, Any],
    kind: str,
    where: str,
    facts: list[tuple[str, str, str]],
    share: float,
    note: str = "",
) -> str:
    cells = "".join(
        f'<div class="fact"><div class="value">{value} <small>{unit}</small></div>'
        f'<div class="label">{escape(label)}</div></div>'
        for value, unit, label in facts
        if value
    )
    note = job["message"] or note
    if job["state"] == "lost":
        note = "its driver is gone"
    elif job["silent_seconds"] > 10:
        note = f"no word for {duration(job['silent_seconds'])}"
    return (
        f'<div class="top"><h2>{escape(job["title"])}</h2>'
        f'<span class="chip {job["state"]}">{kind} {escape(job["state"])}</span>'
        f'<span class="where">{escape(where)}</span></div>'
        f'<div class="facts">{cells}</div>'
        f'<div class="bar"><i style="width:{100 * min(share, 1.0):.2f}%"></i></div>'
        + (f'<div class="note">{escape(note)}</div>' if note else "")
    )


def _reached(job: dict[str, Any]) -> str:
    if "step" in job:
        loss = _loss(job["loss"])
        return f"{_number(job['step'])} updates" + (f", loss {loss}" if loss else "")
    return f"{_number(job['done'])} of {_number(job['blocks'])} blocks"


def plural(count: int, word: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {word}" + ("s" if count != 1 else "")


def _number(value: int) -> str:
    return f"{value:,}"


def _speed(value: float | None) -> str:
    return "" if value is None else si(value)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
