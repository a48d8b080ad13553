"""The project's function on facts: whole entities at a time, its result checked."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.contract import Checker
from lifecycle.data.contract.checker import REASONS_SHOWN
from lifecycle.errors import FeatureError
from lifecycle.lake.column_types import to_frame
from lifecycle.lake.read import is_nullable
from lifecycle.project import ContractSpec, FeatureViewSpec, Project
from lifecycle.runtime.plugins import load_plug, plug_file, where

BLOCK = 1 << 18
"""Facts that the function gets at once, or one entity's if it has more."""


class ViewFunction(NamedTuple):
    """A view's function, ready to be called."""

    view: str
    spec: FeatureViewSpec
    call: Callable[[pd.DataFrame], Any]
    file: Path

    @property
    def key(self) -> str:
        """The project's key, for messages."""
        return f"feature_views.{self.view}.function"


def load_function(project: Project, name: str) -> ViewFunction:
    """The function of a view.

    Raises:
        FeatureError: there is no such module or function, or the module fails.
    """
    spec = project.feature_views[name]
    key = f"feature_views.{name}.function"
    call = load_plug(project, spec.function, key)
    return ViewFunction(name, spec, call, plug_file(project, spec.function, key)[0])


def compute(function: ViewFunction, facts: pa.Table) -> pa.RecordBatch:
    """The features of facts, a row each, typed as the view's features say.

    Args:
        facts: by entity and time.

    Raises:
        FeatureError: the function fails, returns other rows or columns, or values that are not
            what `features` says.
    """
    spec = function.spec
    frame = to_frame(facts, is_nullable)
    try:
        result = function.call(frame)
    except Exception as error:
        raise FeatureError(f"{function.key}: {where(error, function.file)}") from None
    if not isinstance(result, pd.DataFrame):
        raise FeatureError(f"{function.key}: it returned {type(result).__name__}, not a DataFrame")
    if not result.index.equals(pd.RangeIndex(len(facts))):
        raise FeatureError(
            f"{function.key}: it must return one row per fact with the same index: got "
            f"{len(result)} rows for {len(facts)}"
        )
    if sorted(map(str, result.columns)) != sorted(spec.features):
        raise FeatureError(
            f"{function.key}: it returned {', '.join(map(str, result.columns)) or 'no column'}, "
            "and "
            f"feature_views.{function.view}.features names {', '.join(spec.features)}"
        )
    return _checked(function, result[list(spec.features)])


def compute_all(
    function: ViewFunction, facts: pa.Table
) -> Iterator[tuple[pa.Table, pa.RecordBatch]]:
    """Facts and their features, whole entities at a time.

    Raises:
        FeatureError: as `compute`.
    """
    ends = [*first_facts(facts[function.spec.key]).tolist()[1:], len(facts)]
    start = 0
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or following - start > BLOCK:
            block = facts.slice(start, end - start)
            yield block, compute(function, block)
            start = end


def first_facts(entities: pa.ChunkedArray) -> NDArray[np.int64]:
    """Start of each entity's facts, in facts that are ordered by entity."""
    if not len(entities):
        return np.empty(0, dtype=np.int64)
    changes = pc.not_equal(entities.slice(1), entities.slice(0, len(entities) - 1))
    return np.flatnonzero(np.append(True, changes.to_numpy(zero_copy_only=False)))


def feature_schema(spec: FeatureViewSpec) -> pa.Schema:
    """The types of what a view's function makes."""
    return _checker(spec).schema


def _checker(spec: FeatureViewSpec) -> Checker:
    features = {
        name: feature.model_copy(update={"nullable": True})
        for name, feature in spec.features.items()
    }
    return Checker(ContractSpec(columns=features), now=datetime.now(UTC).replace(tzinfo=None))


def _checked(function: ViewFunction, features: pd.DataFrame) -> pa.RecordBatch:
    checker = _checker(function.spec)
    try:
        table = pa.Table.from_pandas(features, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise FeatureError(f"{function.key}: a column mixes types: {error}") from None
    batch = table.combine_chunks().to_batches()
    if not batch:  # no facts at all
        return pa.RecordBatch.from_pylist([], schema=checker.schema)
    accepted, rejected = checker.check(batch[0], 0)
    if rejected.num_rows:
        worst = list(checker.reasons.items())[:REASONS_SHOWN]
        raise FeatureError(
            f"{function.key}: {rejected.num_rows:,} of {len(features):,} rows are not what "
            f"feature_views.{function.view}.features says: "
            + "; ".join(f"{reason} ({count:,})" for reason, count in worst)
        )
    return accepted


# Check that a view's function does not look ahead: later facts must change nothing.
#
# The function is run on a sample of facts and again on what of them was known at several times. The
# features of facts that are in both must be equal, bit by bit; one that differs has been made from
# facts of its future. The same with entities: those of one entity must not depend on others'.

ENTITIES = 200
FACTS = 20_000
"""Size of the sample, at most; the entities with the most facts tell the most."""
CUTS = 12
"""Times at which the facts are cut."""


def check_lookahead(function: ViewFunction, facts: pa.Table) -> None:
    """Try the function on a sample.

    Args:
        facts: by entity and time.

    Raises:
        FeatureError: a feature was made from later facts or from those of another entity; names
            the feature and the time.
    """
    sample, starts = _sample(facts, function.spec.key)
    if not len(sample):
        return
    features = compute(function, sample)
    times = sample[function.spec.time]
    for cut in _cuts(times):
        before_cut = pc.less(times, cut).combine_chunks()
        recomputed = compute(function, sample.filter(before_cut))
        name, row = _differs(features.filter(before_cut), recomputed)
        if name is not None:
            of = sample.filter(before_cut)[function.spec.time][row].as_py()
            raise FeatureError(
                f"{function.key}: feature {name!r} looks ahead: that of a fact known since {of} is "
                f"another one without the facts from {cut.as_py()} on; use earlier facts of the "
                "entity only"
            )
    if len(starts) > 1:  # a block holds whole entities, and which ones must not matter
        entity = np.searchsorted(starts, np.arange(len(sample)), side="right")
        half = pa.array(entity % 2 == 0)
        name, row = _differs(features.filter(half), compute(function, sample.filter(half)))
        if name is not None:
            of = sample.filter(half)[function.spec.time][row].as_py()
            raise FeatureError(
                f"{function.key}: feature {name!r} of a fact known since {of} is another one "
                f"without the facts of other entities: group by {function.spec.key!r}"
            )


def _sample(facts: pa.Table, key: str) -> tuple[pa.Table, NDArray[np.int64]]:
    """Facts of some entities, ordered as they were, and where each of these starts."""
    starts = first_facts(facts[key])
    sizes = np.diff(np.append(starts, len(facts)))
    chosen = np.argsort(-sizes, kind="stable")[:ENTITIES]
    fitting = chosen[np.cumsum(sizes[chosen]) <= FACTS]
    chosen = np.sort(fitting if len(fitting) else chosen[:1])
    rows = [
        np.arange(first, first + min(size, FACTS))
        for first, size in zip(starts[chosen], sizes[chosen], strict=True)
    ]
    if not rows:
        return facts.slice(0, 0), starts
    sample = facts.take(pa.array(np.concatenate(rows)))
    return sample, first_facts(sample[key])


def _cuts(times: pa.ChunkedArray) -> list[pa.Scalar]:
    """Times spread over those of the facts, the earliest left out: nothing is known before it."""
    distinct = pc.unique(times).sort()
    if len(distinct) < 2:
        return []
    at = np.unique(np.linspace(1, len(distinct) - 1, CUTS).astype(int))
    return [distinct[int(time)] for time in at]


def _differs(expected: pa.RecordBatch, other: pa.RecordBatch) -> tuple[str | None, int]:
    """The first feature that is not the same in both, and the row; None if all are."""
    for name in expected.schema.names:
        first, second = expected.column(name), other.column(name)
        if first.equals(second):
            continue
        same = pc.equal(first, second).fill_null(False)
        both_null = pc.and_(pc.is_null(first), pc.is_null(second))
        row = pc.index(pc.or_(same, both_null), False).as_py()
        if row >= 0:
            return name, row
    return None, -1
