"""Features of an hour, from the calendar and the weather."""

import numpy as np
import pandas as pd


def build(inputs: pd.DataFrame) -> pd.DataFrame:
    """Add the rush hours of working days, and months since the start for the growth."""
    features = inputs.drop(columns="yr")  # in `months`
    hour = inputs["hr"]
    rush = hour.isin([7, 8, 17, 18, 19])
    features["rush"] = (rush & (inputs["workingday"] == 1)).astype("int64")
    features["outing"] = (hour.between(10, 18) & (inputs["workingday"] == 0)).astype("int64")
    features["months"] = inputs["yr"] * 12 + inputs["mnth"]
    features["season_angle"] = np.cos(2 * np.pi * inputs["mnth"] / 12)
    return features
