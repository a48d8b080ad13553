"""What a person has spent on medical care in the years before."""

import pandas as pd


def history(facts: pd.DataFrame) -> pd.DataFrame:
    """A row a person and year, of that year and the earlier ones only.

    Averages, since sums and counts of years grow with the study: a later year would drift by that.
    """
    person = facts["zper"]
    spent = facts["meddol"].fillna(0.0)
    years = spent.groupby(person).cumcount() + 1
    visits = facts["mdvis"].fillna(0)
    return pd.DataFrame(
        {
            "dollars": spent,
            "average": spent.groupby(person).cumsum() / years,
            "visits": visits.groupby(person).cumsum() / years,
        }
    )
