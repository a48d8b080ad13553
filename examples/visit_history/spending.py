"""What a person has spent on medical care in the years before."""

import pandas as pd


def history(facts: pd.DataFrame) -> pd.DataFrame:
    """A row a person and year, of that year and the earlier ones only."""
    person = facts["zper"]
    spent = facts["meddol"].fillna(0.0)
    total = spent.groupby(person).cumsum()
    years = spent.groupby(person).cumcount() + 1
    visits = facts["mdvis"].fillna(0).groupby(person).cumsum()
    return pd.DataFrame(
        {"years": years, "dollars": spent, "average": total / years, "visits": visits}
    )
