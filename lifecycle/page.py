"""What all HTML pages share: how templates are read, and how a page is written."""

import os
from pathlib import Path

import jinja2


def templates() -> jinja2.Environment:
    """The package's templates, named by their path in it; values are escaped, a missing one fails.

    `style.html.j2` is the style of every page.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lifecycle", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def write_page(html: str, path: Path) -> Path:
    """Write a page in one atomic step; the folder is made if needed.

    Raises:
        OSError: the place cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(html, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path
