"""The person-years of the experiment, each with the calendar year it lies in."""

from importlib.resources import as_file, files

import pandas as pd

FIRST_YEAR = {1: 1975, 2: 1976, 3: 1977, 4: 1977, 5: 1977, 6: 1977}
"""Site → calendar year of its first study year, as this example has it.

The file has study years only. The sites joined one after another: Dayton (1) was the first, in
1974; here Seattle (2) follows a year later and the four others two years later.
"""


def rows() -> pd.DataFrame:
    """One row per person and study year, from the file that statsmodels carries."""
    with as_file(files("statsmodels.datasets.randhie") / "src" / "randhie.csv") as file:
        frame = pd.read_csv(file)
    frame["calendar_year"] = frame["site"].map(FIRST_YEAR) + frame["year"] - 1
    return frame
