"""Leftovers that no other tool reports.

They are a module that imports itself or is too long, and a docstring's parameter that the function
does not have.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

LONGEST = 500
"""Lines of a module of the product: more are two subjects."""
FOLDERS = ("lifecycle", "tasks", "flows", "benchmarks")


def problems(root: Path) -> Iterator[str]:
    """Yield one line per problem, as ruff writes them."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            place = path.relative_to(root)
            text = path.read_text(encoding="utf-8")
            if (lines := text.count("\n")) > LONGEST and folder != "benchmarks":
                yield f"{place}:{LONGEST}: {lines} lines, and {LONGEST} are allowed"
            tree = ast.parse(text)
            module = ".".join(place.with_suffix("").parts)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    names = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
                    if module in names:
                        yield f"{place}:{node.lineno}: imports itself"
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    for name in _missing(node):
                        yield f"{place}:{node.lineno}: {node.name} has no parameter {name}"


def _missing(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the parameters under `Args:` that a function does not have."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names = {argument.arg for argument in (*every, arguments.vararg, arguments.kwarg) if argument}
    _, _, explained = (ast.get_docstring(function, clean=False) or "").partition("Args:\n")
    section = re.split(r"\n\s*\n", explained, maxsplit=1)[0]
    indent = " " * (function.col_offset + 8)
    return [
        name
        for name in re.findall(rf"^{indent}(\w+): ", section, re.MULTILINE)
        if name not in names
    ]
