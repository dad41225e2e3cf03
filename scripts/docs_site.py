"""What MkDocs is told besides ``mkdocs.yml``: pages and files that do not stand in ``docs/``.

The pages that a repository has at its root are pages of the site, too, and a file that a document
names (a test, a table of figures) is copied beside them, so that no link leads out of the site.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and every file that a page links to."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for page in list(files.documentation_pages()):
        for found in LINK.finditer(page.content_string):
            target = _target(page.src_uri, found["target"])
            if target.is_file() and target.suffix != ".md" and _uri(target) not in files.src_uris:
                files.append(File.generated(config, _uri(target), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they lead inside of the site, where every page lies in one folder."""

    def rewritten(found: re.Match[str]) -> str:
        target = _target(page.file.src_uri, found["target"])
        if not target.is_relative_to(ROOT) or not target.exists():
            return found[0]
        if target == ROOT / "README.md":
            return f"](index.md{found['anchor'] or ''})"
        return f"]({_uri(target)}{found['anchor'] or ''})"

    return LINK.sub(rewritten, markdown)


def _target(page: str, link: str) -> Path:
    """The file that a link of a page leads to."""
    home = ROOT if page in PAGES else ROOT / "docs"
    return (home / link).resolve()


def _uri(target: Path) -> str:
    """Where a file lies on the site."""
    home = ROOT / "docs"
    return str(target.relative_to(home if target.is_relative_to(home) else ROOT))
