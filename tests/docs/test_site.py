"""The site builds without a warning, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import DOCS, blocks

import znn_dask

CHECKOUT = DOCS.parent
SOURCE = CHECKOUT / "znn_dask"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the site needs pip install 'znn-dask[docs]'")
    pytest.importorskip("mkdocstrings", reason="the site needs pip install 'znn-dask[docs]'")
    out = tmp_path_factory.mktemp("site")
    # Not --quiet: what mkdocs does not say it does not count as a warning either.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out]
    built = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


class Loaded(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") != "canonical":
            self.found.append(values.get("href") or "")
        elif tag in ("img", "script", "iframe", "source"):
            self.found.append(values.get("src") or "")


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS).with_suffix(".html").as_posix()
        place = re.sub(r"README\.html$", "index.html", place)
        assert (site / place).is_file(), place


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        for target in parser.found:
            assert not re.match(r"(https?:)?//", target), f"{page.name}: {target}"


def test_public_names_are_rendered_with_their_members(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in znn_dask.__all__:
        assert f'id="znn_dask.{name}"' in text, name
    for member in ("Trainer.fit", "Network.conv", "Network.field_of_view", "Volume.image"):
        assert f'id="znn_dask.{member}"' in text, member


def test_search_finds_what_people_look_for(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    for word in ("malis", "rebalance", "--resume", "field of view", "anneal_factor"):
        assert word in index, word


# --- what is written in the pages ---


def snippets() -> Iterator[tuple[str, str]]:
    for page in [*DOCS.rglob("*.md"), CHECKOUT / "README.md"]:
        for block in blocks(page):
            if block.language == "python":
                yield page.name, block.text


def test_python_in_the_pages_compiles_and_uses_public_names() -> None:
    seen = 0
    for page, text in snippets():
        compile(text, page, "exec")
        for name in re.findall(r"\bznn(?:_dask)?\.([A-Za-z_]+)", text):
            rooms = {path.name for path in SOURCE.iterdir() if path.is_dir()}
            assert name in {*znn_dask.__all__, *rooms}, f"{page}: znn.{name}"
        seen += 1
    assert seen > 15


def test_quoted_messages_are_those_of_the_program() -> None:
    """Fragments of messages in the page on trouble occur in the source, f-strings joined."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    page = (DOCS / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`.*?`) ", page, re.MULTILINE)
    checked = 0
    for cell in first_cells:
        for fragment in re.split(r"[…`:,]", cell):
            if len(fragment.strip()) > 7:
                assert fragment.strip() in source, fragment
                checked += 1
    assert checked > 15


def test_lists_follow_an_empty_line() -> None:
    """Code hosts see a list after a line of text; the site does not."""
    for page in [*DOCS.rglob("*.md"), CHECKOUT / "README.md"]:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        wrong = re.search(r"^(?![*\-|#>\s\d]).+\n(?:\* |- |1\. ).*", text, re.MULTILINE)
        assert not wrong, f"{page.name}: empty line before {wrong and wrong[0]!r}"
