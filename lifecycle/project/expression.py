"""Conditions on one row: the rules of a contract and the segments of an evaluation.

They are written as `DataFrame.query` takes them, and evaluated here, node by node of what Python's
parser makes of them: no text reaches pandas, which would run code in it. What is not on the lists
below does not exist.
"""

import ast
import operator
import re
from collections.abc import Callable, Collection
from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

LONGEST = 2000
"""Characters of an expression, at most."""
TOKEN = re.compile(
    r"""(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`(?P<quoted>[^`]*)`|(?P<sign>[&|])""",
    re.DOTALL,
)
"""Text in quotes, a column whose name is no Python name, and pandas' signs for `and` and `or`."""
FUNCTIONS = frozenset({"abs", "sqrt", "exp", "log", "log10", "log1p", "expm1", "floor", "ceil"})
PROPERTIES = {
    "str": frozenset[str](),
    "dt": frozenset(
        {"year", "month", "day", "hour", "minute", "second", "microsecond", "quarter", "dayofweek"}
        | {"day_of_week", "weekday", "dayofyear", "day_of_year", "days_in_month", "is_leap_year"}
        | {"is_month_start", "is_month_end", "is_quarter_start", "is_quarter_end"}
        | {"is_year_start", "is_year_end"}
    ),
}
METHODS = {
    "str": frozenset(
        {"len", "lower", "upper", "title", "capitalize", "casefold", "strip", "lstrip", "rstrip"}
        | {"startswith", "endswith", "contains", "match", "fullmatch", "count", "find", "rfind"}
        | {"slice", "get", "replace", "removeprefix", "removesuffix"}
        | {"isalpha", "isdigit", "isnumeric", "isdecimal", "isalnum", "isspace", "islower"}
        | {"isupper", "istitle"}
    ),
    "dt": frozenset({"day_name", "month_name", "strftime", "normalize", "floor", "ceil", "round"}),
}
"""`name.str.len()`, `day.dt.year`: what pandas says of each value by itself, without making many
characters of a few."""
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
SAMPLE: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "string": "a"}


def columns_of(expression: str, known_columns: Collection[str]) -> tuple[str, ...]:
    """The columns an expression is about, each once, in their order in it.

    What looks at other rows (`mean()`, `shift()`), at names outside the row (`@name`) or calls
    anything but elementwise functions is refused: a rule is about one row, and cannot run code.

    Raises:
        ValueError: it is no such expression, or names no column, or one that is not known.
    """
    tree, quoted = _parse(expression)
    names: dict[str, None] = {}
    try:
        _check(tree, expression, names)
    except RecursionError:
        raise ValueError(f"{expression[:40]!r}… is not a condition: too deeply nested") from None
    columns = tuple(quoted.get(name, name) for name in names)
    for name in columns:
        if name not in known_columns:
            raise ValueError(
                f"{expression!r} names {name!r}, which the columns do not have: "
                f"{', '.join(known_columns)}"
            )
    if not columns:
        raise ValueError(f"{expression!r} names no column")
    return columns


def evaluate(expression: str, frame: "pd.DataFrame") -> "pd.Series[Any]":
    """Evaluate a condition for each row: true, false or missing, with the frame's index.

    Raises:
        ValueError: it is no condition, names what the frame does not have, or cannot be evaluated
            on these columns.
    """
    import numpy as np
    import pandas as pd

    columns_of(expression, [str(name) for name in frame.columns])
    tree, quoted = _parse(expression)
    try:
        with np.errstate(all="ignore"):
            answer = _Evaluator(frame, quoted).value(tree)
    except Exception as error:  # whatever pandas makes of it: it is the user's expression
        raise ValueError(f"{expression!r} cannot be evaluated: {error}") from None
    if isinstance(answer, pd.Series) and answer.dtype == object and not answer.notna().all():
        answer = answer.astype("boolean") if answer.dropna().isin([True, False]).all() else answer
    if not isinstance(answer, pd.Series) or not pd.api.types.is_bool_dtype(answer.dtype):
        raise ValueError(
            f"{expression!r} is not a condition: its value is not true or false for each row"
        )
    return answer


def holds(expression: str, frame: "pd.DataFrame") -> "NDArray[np.bool_]":
    """Return a mask of the rows for which the condition holds (rows,); missing counts as false.

    Raises:
        ValueError: as `evaluate`.
    """
    answer: NDArray[np.bool_] = evaluate(expression, frame).fillna(False).to_numpy(dtype=bool)
    return answer


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


def _parse(expression: str) -> tuple[ast.expr, dict[str, str]]:
    """The tree of an expression, and stand-in → column in backticks.

    Raises:
        ValueError: Python's parser does not take it.
    """
    if len(expression) > LONGEST:
        raise ValueError(
            f"{expression[:40]!r}… is not a condition: it has {len(expression):,} characters, and "
            f"at most {LONGEST:,} are allowed"
        )
    quoted: dict[str, str] = {}
    prefix = "_quoted"
    while prefix in expression:
        prefix += "_"

    def stand_in(token: re.Match[str]) -> str:
        if token["text"] is not None:
            return token["text"]
        if token["sign"] is not None:  # which bind like `and` and `or` here, as in pandas
            return " and " if token["sign"] == "&" else " or "
        name = f"{prefix}_{len(quoted)}"
        quoted[name] = token["quoted"]
        return f" {name} "

    try:
        text = TOKEN.sub(stand_in, expression).strip()
        return ast.parse(text, mode="eval").body, quoted
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = error.msg if isinstance(error, SyntaxError) else str(error) or "too deep"
        raise ValueError(f"{expression!r} is not a condition: {message}") from None


def _check(node: ast.AST, expression: str, names: dict[str, None]) -> bool:
    """Collect the columns below a node, and refuse all that is not on the lists.

    Returns:
        Whether there is a column below.
    """

    def refuse(message: str) -> ValueError:
        return ValueError(f"{expression!r}: {message}")

    match node:
        case ast.Name(id=name):
            names[name] = None
            return True
        case ast.Constant(value=bool() | int() | float() | str()):
            return False
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            if not all(isinstance(_literal(part), bool | int | float | str) for part in parts):
                raise refuse("a list must consist of numbers and texts, such as ['a', 'b']")
            return False
        case ast.BoolOp(values=parts):
            return any([_check(part, expression, names) for part in parts])
        case ast.UnaryOp(operand=part):
            return _check(part, expression, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            sides = [_check(left, expression, names), _check(right, expression, names)]
            if isinstance(op, ast.Pow) and not sides[0]:
                raise refuse("only a column can be raised to a power, such as `age ** 2`")
            return any(sides)
        case ast.Compare(left=left, ops=comparisons, comparators=others):
            for comparison, other in zip(comparisons, others, strict=True):
                member = isinstance(comparison, ast.In | ast.NotIn)
                if member and not isinstance(other, ast.List | ast.Tuple):
                    # `a in b` would ask for a's value in any row of b
                    raise refuse("`in` must be followed by a list, such as ['a', 'b']")
                if not member and type(comparison) not in COMPARISONS:
                    raise refuse(f"{type(comparison).__name__} is not allowed in a rule")
            return any([_check(part, expression, names) for part in (left, *others)])
        case ast.Call(func=ast.Name(id=name), args=[part], keywords=[]) if name in FUNCTIONS:
            return _check(part, expression, names)
        case ast.Call(func=ast.Attribute() as function, args=arguments, keywords=keywords):
            values = [*arguments, *(keyword.value for keyword in keywords)]
            if not all(
                isinstance(_literal(operand), bool | int | float | str) for operand in values
            ):
                raise refuse(f".{function.attr}() takes numbers and texts only")
            return _check_accessor(function, METHODS, expression, names)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            raise refuse(f"{name}() takes one argument")
        case ast.Call():
            raise refuse(f"only these functions are allowed: {', '.join(sorted(FUNCTIONS))}")
        case ast.Attribute():
            return _check_accessor(node, PROPERTIES, expression, names)
    kind = type(node.op if isinstance(node, ast.BinOp) else node).__name__
    raise refuse(f"{kind} is not allowed in a rule")


def _check_accessor(
    node: ast.Attribute,
    allowed: dict[str, frozenset[str]],
    expression: str,
    names: dict[str, None],
) -> bool:
    """`.str.len()` or `.dt.year`, after a column or after what another such one gives."""
    accessor = node.value
    is_allowed = isinstance(accessor, ast.Attribute) and accessor.attr in allowed
    if not (is_allowed and isinstance(accessor, ast.Attribute)):
        raise ValueError(
            f"{expression!r}: .{node.attr} is not about one row: after a column only .str and .dt "
            "are allowed"
        )
    if node.attr not in allowed[accessor.attr]:
        methods = ", ".join(sorted(METHODS[accessor.attr] | PROPERTIES[accessor.attr]))
        raise ValueError(
            f"{expression!r}: .{accessor.attr}.{node.attr} is not allowed in a rule; these are: "
            f"{methods}"
        )
    below = accessor.value
    if not isinstance(below, ast.Name | ast.Call | ast.Attribute):
        raise ValueError(f"{expression!r}: .{accessor.attr} is allowed after a column only")
    return _check(below, expression, names)


def _literal(node: ast.AST) -> Any:
    """The value of a number or text, None of anything else."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    return None


class _Evaluator:
    """Values of the nodes of a checked tree: columns, or numbers and texts."""

    def __init__(self, frame: "pd.DataFrame", quoted: dict[str, str]) -> None:
        self._frame = frame
        self._quoted = quoted

    def value(self, node: ast.AST) -> Any:
        match node:
            case ast.Name(id=name):
                return self._frame[self._quoted.get(name, name)]
            case ast.Constant(value=value):
                return value
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [_literal(part) for part in parts]
            case ast.BoolOp(op=op, values=parts):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                return reduce(join, map(self.value, parts))
            case ast.UnaryOp(op=op, operand=part):
                return _unary(op, self.value(part))
            case ast.BinOp(left=left, op=op, right=right):
                return _arithmetic(op, self.value(left), self.value(right))
            case ast.Compare(left=left, ops=ops, comparators=others):
                values = [self.value(part) for part in (left, *others)]
                pairs = zip(values, ops, values[1:], strict=False)
                return reduce(operator.and_, [_compared(*pair) for pair in pairs])
            case ast.Call(func=ast.Name(id=name), args=[part]):
                import numpy as np

                return getattr(np, name)(self.value(part))
            case ast.Call(func=ast.Attribute() as function, args=arguments, keywords=keywords):
                options = {str(keyword.arg): _literal(keyword.value) for keyword in keywords}
                return self._accessed(function)(*map(_literal, arguments), **options)
            case ast.Attribute():
                return self._accessed(node)
        raise ValueError(f"{type(node).__name__} is not allowed in a rule")

    def _accessed(self, node: ast.Attribute) -> Any:
        accessor = node.value
        if not isinstance(accessor, ast.Attribute):
            raise ValueError(f".{node.attr} is not allowed in a rule")
        return getattr(getattr(self.value(accessor.value), accessor.attr), node.attr)


def _unary(op: ast.unaryop, value: Any) -> Any:
    if isinstance(op, ast.Not | ast.Invert):
        return not value if isinstance(value, bool) else operator.invert(value)
    return operator.neg(value) if isinstance(op, ast.USub) else operator.pos(value)


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    """Numbers and times; texts are only put together: repeated or formatted, they may fill memory.

    Raises:
        TypeError: something else is asked of texts.
    """
    import pandas as pd

    textual = any(
        isinstance(value, str)
        or (isinstance(value, pd.Series) and pd.api.types.is_string_dtype(value.dtype))
        for value in (left, right)
    )
    if textual and not isinstance(op, ast.Add):
        raise TypeError("texts can only be added")
    return ARITHMETIC[type(op)](left, right)


def _compared(left: Any, op: ast.cmpop, right: Any) -> Any:
    if isinstance(op, ast.In):
        return left.isin(right)
    if isinstance(op, ast.NotIn):
        return ~left.isin(right)
    if isinstance(right, list) and isinstance(op, ast.Eq | ast.NotEq):  # as pandas reads it
        return left.isin(right) if isinstance(op, ast.Eq) else ~left.isin(right)
    return COMPARISONS[type(op)](left, right)
