"""What the site does to the pages, so that the same files also read well on a code host.

* Links that leave docs/ (the README, measurements, deploy/) lead to copies below project/.
* A link to a folder leads to its README.md.
* A folder with /* in the navigation stands for its pages.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_LINK = re.compile(r"(\]\()([^)\s#]*)((?:#[^)\s]*)?\))")
_HTML_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_OUTSIDE = "project"


def on_config(config: MkDocsConfig) -> None:
    """Expand folders in the navigation."""
    config.nav = [_expanded(entry, Path(config.docs_dir)) for entry in config.nav or []]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to outside docs/."""
    docs = Path(config.docs_dir)
    todo = [Path(str(file.abs_src_path)) for file in files.documentation_pages()]
    todo += [docs.parent / "CHANGELOG.md", docs.parent / "CONTRIBUTING.md"]
    for source in todo:  # grows while it is walked
        if docs not in source.parents and not files.get_file_from_path(_place(source, docs)):
            file = File.generated(config, _place(source, docs), abs_src_path=str(source))
            file.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(file)
        if source.suffix == ".md":
            targets = (_target(source, link[2]) for link in _links(source.read_text("utf-8")))
            todo += [path for path in targets if path and path not in todo]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to the copies."""
    docs, source = Path(config.docs_dir), Path(str(page.file.abs_src_path))

    def moved(link: re.Match[str]) -> str:
        target = _target(source, link[2])
        if target is None:
            return link[0]
        here = posixpath.dirname(page.file.src_uri) or "."
        return f"{link[1]}{posixpath.relpath(_place(target, docs), here)}{link[3]}"

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    text = "".join(part if part.startswith("`") else _LINK.sub(moved, part) for part in parts)
    return _HTML_COMMENT.sub("", text)


def _links(markdown: str) -> list[re.Match[str]]:
    return list(_LINK.finditer(markdown))


def _target(source: Path, link: str) -> Path | None:
    """The file that a relative link of a page leads to; None for any other link."""
    if not link or ":" in link:
        return None
    path = Path(posixpath.normpath(source.parent / link))
    path = path / "README.md" if path.is_dir() else path
    return path if path.is_file() else None


def _place(path: Path, docs: Path) -> str:
    """Where a file of the checkout stands in the site."""
    if docs in path.parents:
        return path.relative_to(docs).as_posix()
    return f"{_OUTSIDE}/{path.relative_to(docs.parent).as_posix()}"


def _expanded(entry: Any, docs: Path) -> Any:
    if isinstance(entry, dict):
        return {title: _expanded(value, docs) for title, value in entry.items()}
    if isinstance(entry, list):
        return [_expanded(value, docs) for value in entry]
    if entry.endswith("/*"):
        pages = sorted((docs / entry).parent.glob("*.md"), key=lambda p: (p.stem != "README", p))
        return [path.relative_to(docs).as_posix() for path in pages]
    return entry
