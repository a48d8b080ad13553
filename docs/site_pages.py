"""Hooks of MkDocs: pages that are made of files outside docs/, and links to such files."""

import json
import posixpath
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SOURCES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}
"""Pages of the site that are files of the repository."""
DECISIONS = "decisions.md"
LINK = re.compile(
    r"\[(?P<text>[^\]]+)\]\((?!https?://|#|mailto:)(?P<place>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no file of docs/."""
    for name, source in SOURCES.items():
        text = (ROOT / source).read_text()
        if name == "benchmarks.md":
            text += results()
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, DECISIONS, content=decisions()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site; a file that is on none stays a name."""
    name = page.file.src_uri
    source = PurePosixPath(SOURCES.get(name, f"docs/{name}"))

    def target(match: re.Match[str]) -> str:
        place = posixpath.normpath(source.parent / match["place"])
        uri = {source: name for name, source in SOURCES.items()}.get(place)
        if place == "docs/decisions":
            uri = DECISIONS
        elif place.startswith("docs/"):
            uri = place.removeprefix("docs/")
        if uri is None or files.get_file_from_path(uri) is None:
            return match["text"] if "`" in match["text"] else f"{match['text']} (`{place}`)"
        link = posixpath.relpath(uri, posixpath.dirname(name) or ".")
        return f"[{match['text']}]({link}{match['anchor'] or ''})"

    return LINK.sub(target, markdown)


def decisions() -> str:
    """The list of decisions, the newest first."""
    lines = []
    for file in sorted((ROOT / "docs" / "decisions").glob("*.md"), reverse=True):
        title = file.read_text().partition("\n")[0].lstrip("# ")
        lines.append(f"- [{title}](decisions/{file.name})\n")
    head = "# Decisions\n\nEach says what was found, decided, measured and rejected.\n\n"
    return head + "".join(lines)


def results() -> str:
    """The table of the last measurement of each figure."""
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    lines = ["\n## All figures\n\n| figure | value | bar | holds |\n|---|---|---|---|\n"]
    for row in rows:
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        holds = {True: "yes", False: "**no**", None: ""}[row["holds"]]
        name = row["name"].replace("|", "\\|")
        lines.append(f"| {name} | {row['value']:.4g} {row['unit']} | {bar} | {holds} |\n")
    return "".join(lines)
