"""Batches of a table's own Parquet files, as Ray Data and shards read them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.lake import ROW
from lifecycle.lake.column_types import narrow
from lifecycle.project import ColumnSpec

NULLABLE = {
    pa.int8(): pd.Int64Dtype(),
    pa.int16(): pd.Int64Dtype(),
    pa.int32(): pd.Int64Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""A batch without a missing value must have the types of one that has some."""


def batch_frame(
    batch: pa.RecordBatch | pa.Table, specs: Mapping[str, ColumnSpec]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Rows typed as `read_version` types them, and their row numbers (rows,)."""
    raw = batch.to_pandas(types_mapper=NULLABLE.get)
    columns = {name: narrow(raw[name], specs[name]) for name in raw if name != ROW}
    return pd.DataFrame(columns), raw[ROW].to_numpy(dtype=np.int64)
