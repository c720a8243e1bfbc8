"""The page with neurons in 3D, in a real browser."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapes import write_objects
from test_picture import two_balls

from znn_dask.data import create_image
from znn_dask.data.pyramid import build_pyramid
from znn_dask.neurons import NeuronError, neuroglancer_state, view
from znn_dask.neurons.packing import column
from znn_dask.neurons.reduced import reduce_image

PLACES = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "chromedriver": ("chromedriver", "chromium.chromedriver"),
}
ARGUMENTS = (
    "--headless=new --no-sandbox --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --disable-quic --use-gl=angle --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --window-size=900,700"
)


def program(name: str) -> str:
    for candidate in PLACES[name]:
        if found := shutil.which(candidate):
            return found
    pytest.skip(f"no {name} on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two balls, at x 30 and 80 of 100, and an image that is black on the left and white right."""
    folder = tmp_path_factory.mktemp("view")
    image = np.zeros((40, 60, 100), np.uint8)
    image[:, :, 50:] = 250
    shown = view(
        two_balls(), image, voxel_size=(10, 10, 10), title="Balls & <more>", progress=False
    )
    return shown.save(folder / "balls.html")


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in ARGUMENTS.split():
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=program("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(page.as_uri())
        until(lambda: driver.execute_script("return document.documentElement.dataset.ready"))
        yield driver
    finally:
        driver.quit()


def until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "the page did not come so far in a minute"
        time.sleep(0.05)


def pixel(browser: Any, x: float, y: float) -> list[int]:
    """Red, green, blue of the canvas at a point of the page."""
    script = """
        draw();
        const at = new Uint8Array(4), scale = canvas.width / canvas.clientWidth;
        gl.readPixels(arguments[0] * scale, canvas.height - 1 - arguments[1] * scale, 1, 1,
          gl.RGBA, gl.UNSIGNED_BYTE, at);
        return Array.from(at.slice(0, 3));"""
    found: list[int] = browser.execute_script(script, x, y)
    return found


def on_screen(browser: Any, x: float, y: float, z: float) -> tuple[float, float]:
    """Where a point of the specimen (nm) is on the page."""
    script = """
        const p = place([...arguments]), t = camera.turn, m = projection();
        const eye = t.map((row) => row.reduce((sum, v, i) => sum + v * p[i], 0));
        eye[0] += camera.shift[0]; eye[1] += camera.shift[1]; eye[2] -= camera.distance;
        const u = (m[0] * eye[0] + m[8] * eye[2]) / -eye[2], v = m[5] * eye[1] / -eye[2];
        return [(1 + u) / 2 * canvas.clientWidth, (1 - v) / 2 * canvas.clientHeight];"""
    column, row = browser.execute_script(script, x, y, z)
    return column, row


def press(browser: Any, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(key).perform()


def click(browser: Any, x: float, y: float) -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    actions = ActionBuilder(browser)
    actions.pointer_action.move_to_location(round(x), round(y)).click()
    actions.perform()


def selected(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('li.selected')].map((row) => row.dataset.id)"
    found: list[str] = browser.execute_script(script)
    return found


def shown(browser: Any) -> list[str]:
    script = "return scene.objects.filter((o) => o.shown).map((o) => String(o.id))"
    found: list[str] = browser.execute_script(script)
    return found


def test_objects_are_drawn_and_picked(browser: Any) -> None:
    """Along z, with the slice of the image off."""
    browser.execute_script("el('slice-2').checked = false")
    press(browser, "z")
    large, small = on_screen(browser, 300, 300, 0), on_screen(browser, 800, 300, 0)
    assert large[0] < small[0]  # x goes right
    assert on_screen(browser, 300, 400, 0)[1] > large[1]  # y goes down
    colours = browser.execute_script("return scene.objects.map((o) => o.colour)")
    for spot, colour in ((large, colours[0]), (small, colours[1])):
        found = np.array(pixel(browser, *spot))
        assert found.argmax() == np.argmax(colour)
        assert np.ptp(found) > 40
    assert max(pixel(browser, 5, 5)) < 40
    click(browser, *large)
    until(lambda: selected(browser) == ["4"])
    click(browser, *small)
    until(lambda: selected(browser) == ["9"])
    press(browser, "i")
    assert shown(browser) == ["9"]
    assert max(pixel(browser, *large)) < 60  # it is gone
    press(browser, "a")
    assert shown(browser) == ["4", "9"]
    browser.find_element("css selector", "li[data-id='4'] input").click()
    assert shown(browser) == ["9"]
    browser.find_element("id", "all").click()
    click(browser, 5, 5)
    until(lambda: selected(browser) == [])


def test_the_slice_shows_the_image(browser: Any) -> None:
    browser.execute_script("el('slice-2').checked = true; show(() => false)")
    press(browser, "z")
    left, right = on_screen(browser, 250, 300, 200), on_screen(browser, 750, 300, 200)
    assert max(pixel(browser, *left)) < 10
    assert min(pixel(browser, *right)) > 245
    click(browser, *right)
    assert selected(browser) == []  # a slice is no object
    press(browser, "a")


def test_turning_zooming_and_the_scale_bar(browser: Any) -> None:
    press(browser, "r")
    before = on_screen(browser, 800, 300, 200)
    press(browser, "\ue012")  # arrow left
    assert on_screen(browser, 800, 300, 200) != before
    press(browser, "z")
    bar = browser.execute_script(
        "draw(); return [el('scale').innerText, el('scale').children[1].style.width]"
    )
    number, unit = bar[0].split()
    nm = float(number) * {"nm": 1, "µm": 1000}[unit]
    middle = browser.execute_script("return centre")
    a = on_screen(browser, *middle)
    b = on_screen(browser, middle[0] + nm, *middle[1:])
    assert float(bar[1].removesuffix("px")) == pytest.approx(b[0] - a[0], rel=0.01)
    press(browser, "+")
    assert on_screen(browser, middle[0] + nm, *middle[1:])[0] > b[0]


def test_the_page_needs_nothing_else_and_says_nothing(browser: Any, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "http:" not in text.replace("http://127.0.0.1", "")
    assert "https:" not in text
    assert "<title>Balls &amp; &lt;more&gt;</title>" in text
    assert browser.get_log("browser") == []
    requests = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert requests == 0


def test_a_notebook_shows_the_page(browser: Any, page: Path, tmp_path: Path) -> None:
    shown = view(two_balls(), largest=1, progress=False)
    assert list(shown.ids) == [4]
    place = tmp_path / "cell.html"
    place.write_text(f"<!doctype html><body>{shown._repr_html_()}", encoding="utf-8")
    browser.get(place.as_uri())
    ready = "return document.querySelector('iframe').contentDocument.documentElement.dataset.ready"
    until(lambda: browser.execute_script(ready))
    assert browser.get_log("browser") == []


def test_columns_are_differences_byte_by_byte() -> None:
    values = np.array([5, 3, 70000, 70001])
    content = np.frombuffer(column(values, 4), np.uint8).reshape(4, 4).T
    differences = np.ascontiguousarray(content).view("<u4").ravel()
    np.testing.assert_array_equal(np.cumsum(differences, dtype=np.uint32), values)


def test_an_image_is_reduced_to_means_in_its_place() -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, 10, 41, 40), np.uint8)
    reduced = reduce_image(image, 10 * 20 * 20 + 200, voxel_size=(40, 20, 20))
    assert reduced.voxels.shape == (10, 21, 20)
    np.testing.assert_array_equal(reduced.size, (800, 820, 400))
    np.testing.assert_allclose(reduced.part, (1, 41 / 42, 1))
    means = image[0, :, :40].reshape(10, 20, 2, 20, 2).mean(axis=(2, 4))
    order = np.corrcoef(means.ravel(), reduced.voxels[:, :20].ravel())[0, 1]
    assert order > 0.99


def test_a_lower_level_is_read_where_there_is_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (64, 128, 160), np.uint8)
    place = tmp_path / "v.zarr"
    array = create_image(place, "image", values.shape, np.uint8, voxel_size=(20, 10, 10))
    array[...] = values
    whole = reduce_image(f"{place}/image", 32 * 32 * 40)
    assert build_pyramid(f"{place}/image") >= 1
    array[...] = 0  # so what is read now is the lower level
    lower = reduce_image(f"{place}/image", 32 * 32 * 40)
    np.testing.assert_allclose(lower.size, whole.size)
    np.testing.assert_array_equal(lower.origin, whole.origin)
    assert lower.voxels.shape == whole.voxels.shape
    assert np.corrcoef(lower.voxels.ravel(), whole.voxels.ravel())[0, 1] > 0.99


def test_a_state_of_neuroglancer(tmp_path: Path) -> None:
    source = write_objects(tmp_path / "o.zarr", two_balls(), (30, 8, 4), offset=(10, 0, 0))
    state = neuroglancer_state(source, "http://127.0.0.1:9000/", meshes="meshes", ids=[4])
    assert state["dimensions"] == {"x": [4e-9, "m"], "y": [8e-9, "m"], "z": [3e-8, "m"]}
    assert state["position"] == [50, 30, 30]
    zarr, meshes = state["layers"][0]["source"]
    assert zarr.startswith("zarr://http://127.0.0.1:9000/")
    assert meshes["url"] == "precomputed://http://127.0.0.1:9000/meshes"
    assert [row[3] for row in meshes["transform"]["matrix"]] == [-2, -4, -15]
    assert state["layers"][0]["segments"] == ["4"]


def test_what_cannot_be_shown() -> None:
    with pytest.raises(NeuronError, match="an image is z,y,x or c,z,y,x"):
        view(two_balls(), np.zeros((4, 4)), progress=False)
