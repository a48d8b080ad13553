"""Names that are no nouns, and class names that occur twice: `python -m tests.lint.names`.

A value is named for what it is (`match`, `message`, `rows`), not for how it came about (`found`,
`said`, `kept`). Only whole names count: `known_columns` says what is known.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# fmt: off
WORDS = frozenset((
    "answered", "aside", "asked", "done", "found", "given", "gone", "got", "held", "kept", "known",
    "left", "made", "one", "opened", "said", "seen", "taken", "theirs", "told", "whole",
))
# fmt: on
"""Participles, pronouns and adverbs that stood in place of a noun, in any case of letters."""
FOLDERS = ("lifecycle", "tasks", "flows", "benchmarks")
ALLOWED = {
    # stored: a request for erasure on disk, the records of what was erased or deleted, and the
    # JSON that `lifecycle erase` and `lifecycle retention` print
    ("lifecycle/governance/requests.py", "found"),
    ("lifecycle/records/governance.py", "kept"),
    ("lifecycle/records/governance.py", "left"),
    # the left side of an operator, as `ast` calls it
    ("lifecycle/project/expression.py", "left"),
}


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, argument, attribute, function and class that is bound."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name


def problems(root: Path) -> Iterator[str]:
    """One line per problem, as ruff writes them: `file:line: name: say …`."""
    classes: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            place = path.relative_to(root).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for line, name in bound_names(tree):
                word = name.strip("_").lower()
                if word in WORDS and (place, word) not in ALLOWED:
                    yield f"{place}:{line}: {name}: say what it is, with a noun"
            for node in ast.walk(tree):
                if folder == "lifecycle" and isinstance(node, ast.ClassDef):
                    here = f"{place}:{node.lineno}"
                    if node.name in classes:
                        other = classes[node.name]
                        yield f"{here}: {node.name}: say another name, {other} has this one"
                    classes.setdefault(node.name, here)


def main(root: Path = Path()) -> int:
    lines = list(problems(root))
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
