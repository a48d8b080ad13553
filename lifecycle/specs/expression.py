"""Expressions of rules: conditions on one row, as `DataFrame.eval` takes them, and nothing else."""

import ast
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

QUOTED = re.compile(r"`([^`]+)`")
"""A column whose name is no Python name stands between backticks."""
FUNCTIONS = frozenset({"abs", "sqrt", "exp", "log", "log10", "log1p", "expm1", "floor", "ceil"})
ACCESSORS = frozenset({"str", "dt"})
"""`name.str.len()`, `day.dt.year`: what pandas says of each value by itself."""
PLAIN = (
    *(ast.Expression, ast.Constant, ast.Load, ast.List, ast.Tuple),
    *(ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator),
    *(ast.Compare, ast.cmpop),
)
SAMPLE: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "string": "a"}


def columns_of(expression: str, known: Collection[str]) -> tuple[str, ...]:
    """The columns an expression is about, each once, in their order in it.

    What looks at other rows (`mean()`, `shift()`), at names outside the row (`@name`) or calls
    anything but elementwise functions is refused: a rule is about one row, and cannot run code.

    Raises:
        ValueError: it is no such expression, or names no column, or one that is not known.
    """
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"_quoted_{len(quoted)}"
        quoted[name] = match[1]
        return name

    try:
        tree = ast.parse(QUOTED.sub(stand_in, expression).strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{expression!r} is no condition: {said}") from None
    names: dict[str, None] = {}
    _read(tree, expression, names)
    columns = tuple(quoted.get(name, name) for name in names)
    for name in columns:
        if name not in known:
            raise ValueError(
                f"{expression!r} names {name!r}, which the columns do not have: {', '.join(known)}"
            )
    if not columns:
        raise ValueError(f"{expression!r} names no column")
    return columns


def holds(expression: str, frame: "pd.DataFrame") -> "NDArray[np.bool_]":
    """Where the condition holds, one value a row (rows,).

    Raises:
        ValueError: it cannot be evaluated on these columns, or is no condition.
    """
    import numpy as np
    import pandas as pd

    try:
        found = frame.eval(expression, engine="python")
    except Exception as error:  # whatever pandas makes of it: it is the user's expression
        raise ValueError(f"{expression!r} cannot be evaluated: {error}") from None
    if not isinstance(found, pd.Series) or found.dtype != np.bool_:
        raise ValueError(f"{expression!r} is no condition: it is not true or false for each row")
    return found.to_numpy()


def try_out(expression: str, kinds: dict[str, str]) -> None:
    """Evaluate an expression on one made-up row, to find what its columns' types do not allow.

    Args:
        kinds: the columns with the type their values have: integer, number, boolean, string or
            datetime.

    Raises:
        ValueError: as `holds`.
    """
    import pandas as pd

    sample = SAMPLE | {"datetime": pd.Timestamp("2000-01-01")}
    holds(expression, pd.DataFrame({name: [sample[kind]] for name, kind in kinds.items()}))


def _read(node: ast.AST, expression: str, names: dict[str, None]) -> None:
    """Collect the columns below a node; refuse what is not about one row."""
    if isinstance(node, ast.Name):
        names[node.id] = None
        return
    if isinstance(node, ast.Attribute):
        chain = node.value
        if node.attr.startswith("_") or not _of_accessor(node):
            raise ValueError(
                f"{expression!r}: .{node.attr} is not about one row: after a column only .str and "
                ".dt are allowed"
            )
        _read(chain, expression, names)
        return
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute):
            _read(function, expression, names)
        elif not (isinstance(function, ast.Name) and function.id in FUNCTIONS):
            raise ValueError(
                f"{expression!r}: only these functions are allowed: {', '.join(sorted(FUNCTIONS))}"
            )
        parts: list[ast.AST] = [*node.args, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, PLAIN):
        if isinstance(node, ast.Compare):
            _refuse_columns_as_lists(node, expression)
        parts = list(ast.iter_child_nodes(node))
    else:
        raise ValueError(f"{expression!r}: {type(node).__name__} is not allowed in a rule")
    for part in parts:
        _read(part, expression, names)


def _of_accessor(node: ast.Attribute) -> bool:
    """Whether it is `column.str`, `column.dt`, or something behind one of them."""
    below = node.value
    if isinstance(below, ast.Call):
        below = below.func
    if isinstance(below, ast.Attribute):
        return _of_accessor(below)
    return node.attr in ACCESSORS and isinstance(below, ast.Name)


def _refuse_columns_as_lists(node: ast.Compare, expression: str) -> None:
    """`a in b` would ask for a's value in any row of b."""
    for operator, right in zip(node.ops, node.comparators, strict=True):
        literal = isinstance(right, ast.List | ast.Tuple)
        if isinstance(operator, ast.In | ast.NotIn) and not literal:
            raise ValueError(f"{expression!r}: after `in` stands a list, such as ['a', 'b']")
