"""The drawing in docs/architecture.md, made from the imports.

`python -m tests.support.architecture` writes it anew; a test holds the page against the imports.
"""

from pathlib import Path

import grimp

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "```mermaid\n", "```\n"
LOOSE = ("api", "client", "errors", "redaction", "settings")
"""Modules of `lifecycle` that are in no package; everyone may import them but api and client."""


def imports() -> dict[str, set[str]]:
    """What each room imports: `flows`, `tasks` and the packages of `lifecycle`.

    An import that a chain of others implies is left out (transitive reduction), so that the
    drawing shows the direction and not each line.
    """
    graph = grimp.build_graph("flows", "tasks", "lifecycle", cache_dir=None)
    direct: dict[str, set[str]] = {}
    for module in graph.modules:
        others = map(_room, graph.find_modules_directly_imported_by(module))
        if room := _room(module):
            direct.setdefault(room, set()).update(other for other in others if other)
    direct = {room: others - {room} for room, others in direct.items()}

    def reached(room: str) -> set[str]:
        return direct[room].union(*(reached(other) for other in direct[room]))

    return {
        room: others - set().union(*(reached(other) for other in others))
        for room, others in direct.items()
    }


def drawing() -> str:
    """The imports as a Mermaid flowchart, from the flows (top) to what all stand on (bottom)."""
    edges = sorted(
        f"  {room} --> {other}\n" for room, others in imports().items() for other in others
    )
    return "flowchart TB\n" + "".join(edges)


def _room(module: str) -> str | None:
    root, *rest = module.split(".")
    if root != "lifecycle":
        return root
    return None if not rest or rest[0] in LOOSE else rest[0]


def page() -> str:
    """The page with the drawing of now."""
    text = PAGE.read_text()
    start = text.index(BEGIN) + len(BEGIN)
    return text[:start] + drawing() + text[text.index(END, start) :]


if __name__ == "__main__":
    PAGE.write_text(page())
