"""Views tried without writing anything, as `lifecycle validate` does."""

import pandas as pd
import pyarrow as pa

from lifecycle.data.sources import open_source
from lifecycle.data.views.asof import AsOf
from lifecycle.data.views.compute import ViewFunction, compute_all, feature_schema, load_function
from lifecycle.data.views.facts import in_order, read_facts
from lifecycle.data.views.join import join_batch
from lifecycle.data.views.lookahead import check_lookahead
from lifecycle.data.views.use import ViewUse, view_uses
from lifecycle.lake import is_nullable
from lifecycle.lake.arrow import to_arrow, to_frame
from lifecycle.project import Project


def try_views(project: Project, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the features of each view, if there is one; as `join_views` makes them.

    Args:
        rows: that keep the contract, typed as it says; nothing in them is hashed.

    Raises:
        SourceError, ContractError: the facts cannot be used.
        FeatureError: a view's function fails, looks ahead, or returns something else than declared.
    """
    if not project.feature_views:
        return rows
    views = {}
    for name, use in view_uses(project).items():
        spec = project.feature_views[name]
        function = load_function(project, name)
        facts = in_order(read_facts(project, name, open_source(project, spec.source)), spec)
        check_lookahead(function, facts)
        views[name] = known_of(function, facts, use)
    batch = to_arrow(rows).combine_chunks().to_batches()[0]
    joined = join_batch(project, batch, views)
    return to_frame(pa.Table.from_batches([joined]), is_nullable)


def known_of(function: ViewFunction, facts: pa.Table, use: ViewUse) -> AsOf:
    """The features of facts in memory, straight from the function.

    Args:
        facts: by entity and time.

    Raises:
        FeatureError: the function fails, or returns something else than declared.
    """
    spec = function.spec
    made = [features for _, features in compute_all(function, facts)]
    features = pa.Table.from_batches(made, schema=feature_schema(spec))
    named = features.rename_columns(list(use.columns)).combine_chunks()
    return AsOf(facts[spec.key], facts[spec.time], named, use.max_age, use.same_instant)
