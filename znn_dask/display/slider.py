"""Volumes with a kernel behind the page: slices chosen with a slider (ipywidgets, an extra)."""

import importlib.util
from typing import Any

from znn_dask.data.volume import Volume
from znn_dask.display.page import harmless
from znn_dask.display.slices import AXES, EDGE, Item, items, shoot
from znn_dask.display.volume import volume_html
from znn_dask.training.screen import in_notebook

_EDGE = 1.6 * EDGE  # of the picture on the page


@harmless
def volume_bundle(volume: Volume) -> dict[str, Any]:
    """What a notebook shows: the slider, or where it has no widgets, the mosaic."""
    html = volume_html(volume)
    bundle: dict[str, Any] = {"text/plain": repr(volume)}
    if html is not None:
        bundle["text/html"] = html
    if in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        found = items(volume)
        if found:
            bundle |= Slider(volume.path, found).widget._repr_mimebundle_()
            bundle["text/plain"] = repr(volume)
    return bundle


class Slider:
    """One slice of a volume at a time: which axis, where, and what lies over the image."""

    def __init__(self, path: str, found: dict[str, Item]) -> None:
        import ipywidgets

        self._found = found
        pictures = [name for name, item in found.items() if item.kind == "image"]
        overlays = [name for name, item in found.items() if item.kind != "image"]
        self.image = ipywidgets.Dropdown(options=[*pictures, "nothing"], description="image")
        self.over = ipywidgets.Dropdown(options=["nothing", *overlays], description="over it")
        if overlays:
            self.over.value = overlays[0]
        self.axis = ipywidgets.ToggleButtons(options=list(AXES), description="across")
        self.axis.style.button_width = "36px"
        self.position = ipywidgets.IntSlider(description="slice", continuous_update=True)
        self.position.layout.width = "420px"
        self.picture = ipywidgets.Image(format="jpeg")
        self._aim()
        for control in (self.image, self.over, self.position):
            control.observe(self._draw, "value")
        self.axis.observe(self._aim, "value")
        rows = [ipywidgets.HBox([self.image, self.over] if overlays else [self.image]), self.axis]
        title = ipywidgets.HTML(f"<b>Volume</b> {path}")
        self.widget = ipywidgets.VBox([title, *rows, self.position, self.picture])

    def _aim(self, change: Any = None) -> None:
        """To the middle of the axis that was chosen."""
        n = next(iter(self._found.values())).shape[AXES.index(self.axis.value)]
        self.position.max = n - 1
        self.position.value = n // 2
        self._draw()

    def _draw(self, change: Any = None) -> None:
        axis, position = AXES.index(self.axis.value), self.position.value
        image, over = self._found.get(self.image.value), self._found.get(self.over.value)
        if image is not None and over is not None and image.shape != over.shape:
            image = None  # another part of the tissue, or another resolution: it stands alone
        item = over or image
        if item is None or position >= item.shape[axis]:
            return
        shot = shoot(image, over, axis, position, _EDGE)
        self.picture.width, self.picture.height = f"{shot.width:.0f}", f"{shot.height:.0f}"
        self.picture.value = shot.jpeg
