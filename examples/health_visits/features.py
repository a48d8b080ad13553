"""Features of a person-year, from what is known when the year begins."""

import pandas as pd


def build(inputs: pd.DataFrame) -> pd.DataFrame:
    """Add what trees would need many splits for; the same function runs in training and serving."""
    features = inputs.copy()
    features["income_per_head"] = inputs["income"] / inputs["num"]
    features["exposure"] = (
        inputs["mdeoff"] * inputs["coins"] / 100
    )  # dollars a person may have to pay
    features["health_gap"] = inputs["xghindx"] - inputs["mhi"]
    return features
