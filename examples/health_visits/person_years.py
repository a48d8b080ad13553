"""The person-years of the experiment, each with the calendar year it lies in."""

from importlib.resources import as_file, files

import pandas as pd

FIRST_YEAR = {1: 1975, 2: 1976, 3: 1977, 4: 1977, 5: 1977, 6: 1977}
"""Site → calendar year that most of its first study year lies in.

Families joined in Dayton (1) from November 1974, in Seattle (2) from January 1976, in Fitchburg (3)
and Franklin County (4) from July 1976, in Charleston (5) and Georgetown County (6) from November
1976 (Newhouse et al. 1993, Free for All? Lessons from the RAND Health Insurance Experiment)."""


def rows() -> pd.DataFrame:
    """One row per person and study year, from the file that statsmodels carries."""
    with as_file(files("statsmodels.datasets.randhie") / "src" / "randhie.csv") as file:
        frame = pd.read_csv(file)
    frame["calendar_year"] = frame["site"].map(FIRST_YEAR) + frame["year"] - 1
    return frame
