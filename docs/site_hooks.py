"""Lets the site hold pages and files that stand elsewhere in the repository.

`PAGES` become pages. A link from any page to another file of the repository becomes a copy of that file in the site.
In the repository all links are plain relative paths, so they also work where the Markdown is read as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "evaluation/README.md": "measured.md",
    "deploy/README.md": "deploy.md",
    "SECURITY.md": "security.md",
    "CHANGES.md": "changes.md",
    "steering/published/README.md": "published.md",
    "examples/plugin-detector/README.md": "plugin-detector.md",
    "README.md": "index.md",
}
_LINK = re.compile(r"(\]\(|src=\")([^)\s\"#]+)(#[^)\s\"]*)?(?=[)\"])")


def on_files(files: Files, config: Any) -> Files:
    """The files of the site, with the pages and linked files from elsewhere added."""
    sources = {src: (ROOT / src, target) for src, target in PAGES.items() if target != "index.md"}
    for source, target in sources.values():
        files.append(File.generated(config, target, content=_relinked(source.read_text("utf-8"), source)))
    own = [Path(f.abs_src_path) for f in files.documentation_pages() if f.abs_src_path]
    for source in [*own, *(s for s, _ in sources.values())]:
        for link in _LINK.finditer(source.read_text("utf-8")):
            there = _outside(source, link[2])
            if there is None or not there.is_file() or str(there.relative_to(ROOT)) in PAGES:
                continue
            if not there.is_relative_to(ROOT / "docs") and files.get_file_from_path(_copy_of(there)) is None:
                files.append(File.generated(config, _copy_of(there), abs_src_path=str(there)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page's text, with links to elsewhere led into the site."""
    source = page.file.abs_src_path
    return _relinked(markdown, Path(source)) if source and Path(source).parent == ROOT / "docs" else markdown


def _relinked(text: str, source: Path) -> str:
    def place(found: re.Match[str]) -> str:
        there = _outside(source, found[2])
        if there is None:
            return found[0]
        inside = str(there.relative_to(ROOT))
        if there.is_relative_to(ROOT / "docs"):
            target = str(there.relative_to(ROOT / "docs"))
        elif there.is_dir():
            target = PAGES.get(f"{inside}/README.md", "index.md")
        else:
            target = PAGES.get(inside) or _copy_of(there)
        return f"{found[1]}{target}{found[3] or ''}"

    return _LINK.sub(place, text)


def _outside(source: Path, link: str) -> Path | None:
    """The file that a link of `source` means, if it is one that the site must be told of."""
    if "://" in link or link.startswith("mailto:"):
        return None
    there = Path(os.path.normpath(source.parent / link))
    if source.parent == ROOT / "docs" and there.is_relative_to(ROOT / "docs"):
        return None
    return there if there.exists() and there.is_relative_to(ROOT) and str(there.relative_to(ROOT)) != "." else None


def _copy_of(there: Path) -> str:
    return f"files/{there.relative_to(ROOT)}"
