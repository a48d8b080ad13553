"""Plain English in code: names that are nouns, class names used once, docstrings that begin well.

A value is named for what it is (`match`, `message`, `rows`), not for how it came about (`found`,
`said`, `kept`). Only whole names count: `known_columns` says what is known. A public docstring
begins with a verb or a noun, as numpy's do, never with a clause (`Whether …`, `What …`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

# fmt: off
WORDS = frozenset((
    "again", "alone", "answered", "aside", "asked", "beside", "done", "found", "given", "gone",
    "got", "held", "kept", "known", "left", "lot", "made", "mine", "named", "nobody", "nothing",
    "one", "opened", "ours", "rest", "said", "seen", "shown", "some", "taken", "theirs", "there",
    "told", "twice", "wanted", "what", "whole", "why",
))
"""Participles, pronouns and adverbs that stood in place of a noun, in any case of letters."""
CLAUSES = frozenset((
    "args:", "as", "because", "by", "called", "for", "from", "how", "if", "in", "of", "so", "that",
    "until", "what", "whatever", "when", "where", "whether", "which", "who", "whoever", "whom",
    "whose", "why", "with", "without",
))
"""Words with which a clause or a fragment begins."""
# fmt: on
FOLDERS = ("lifecycle", "tasks", "flows", "benchmarks")
ALLOWED = {
    # stored: a request for erasure on disk, the records of what was erased or deleted, and the
    # JSON that `lifecycle erase` and `lifecycle retention` print
    ("lifecycle/governance/requests.py", "found"),
    ("lifecycle/records/governance.py", "kept"),
    ("lifecycle/records/governance.py", "left"),
    # stored: the JSON of `lifecycle lineage`
    ("lifecycle/lineage/graph.py", "what"),
    # the parameter of the flow `release`, which deployments pass
    ("flows/release.py", "again"),
    ("tasks/release.py", "again"),
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


def clauses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and first words of each public docstring that begins with a clause."""
    for node in ast.walk(tree):
        match node:
            case ast.Module():
                line = 1
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("_"):
                    continue
                line = node.lineno
            case ast.ClassDef(name=name) if not name.startswith("_"):
                line = node.lineno
            case _:
                continue
        words = (ast.get_docstring(node) or "").split(maxsplit=3)[:3]
        if words and words[0].strip(",").lower() in CLAUSES:
            yield line, " ".join(words)


def problems(root: Path) -> Iterator[str]:
    """Yield one line per problem, as ruff writes them: `file:line: name: say …`."""
    classes: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            place = path.relative_to(root).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for line, name in bound_names(tree):
                word = name.strip("_").lower()
                if word in WORDS and (place, word) not in ALLOWED:
                    yield f"{place}:{line}: {name}: say what it is, with a noun"
            for line, beginning in clauses(tree):
                yield f"{place}:{line}: {beginning} …: begin a docstring with a verb or a noun"
            for node in ast.walk(tree):
                if folder == "lifecycle" and isinstance(node, ast.ClassDef):
                    here = f"{place}:{node.lineno}"
                    if node.name in classes:
                        other = classes[node.name]
                        yield f"{here}: {node.name}: say another name, {other} has this one"
                    classes.setdefault(node.name, here)
