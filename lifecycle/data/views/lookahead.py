"""Whether a view's function looks ahead: facts it could not have known must change nothing.

The function is run on a sample of facts and again on what of them was known at several times. The
features of facts that are in both must be equal, bit by bit; one that differs has been made from
facts of its future. The same with entities: those of one entity must not depend on others'.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lifecycle.data.views.compute import ViewFunction, compute, first_facts
from lifecycle.errors import FeatureError

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
    whole = compute(function, sample)
    times = sample[function.spec.time]
    for cut in _cuts(times):
        known = pc.less(times, cut).combine_chunks()
        again = compute(function, sample.filter(known))
        name, row = _differs(whole.filter(known), again)
        if name is not None:
            of = sample.filter(known)[function.spec.time][row].as_py()
            raise FeatureError(
                f"{function.key}: feature {name!r} looks ahead: that of a fact known since {of} is "
                f"another one without the facts from {cut.as_py()} on; use earlier facts of the "
                "entity only"
            )
    if len(starts) > 1:  # a block holds whole entities, and which ones must not matter
        entity = np.searchsorted(starts, np.arange(len(sample)), side="right")
        half = pa.array(entity % 2 == 0)
        name, row = _differs(whole.filter(half), compute(function, sample.filter(half)))
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
    return [distinct[int(one)] for one in at]


def _differs(one: pa.RecordBatch, other: pa.RecordBatch) -> tuple[str | None, int]:
    """The first feature that is not the same in both, and the row; None if all are."""
    for name in one.schema.names:
        first, second = one.column(name), other.column(name)
        if first.equals(second):
            continue
        same = pc.equal(first, second).fill_null(False)
        both = pc.and_(pc.is_null(first), pc.is_null(second))
        row = pc.index(pc.or_(same, both), False).as_py()
        if row >= 0:
            return name, row
    return None, -1
