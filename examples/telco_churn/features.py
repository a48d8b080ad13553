"""Features of a customer."""

import pandas as pd

EXTRAS = ["OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport"]


def build(inputs: pd.DataFrame) -> pd.DataFrame:
    """Add how the bill has changed, and how much a customer is bound to the company."""
    features = inputs.copy()
    months = inputs["tenure"].clip(lower=1)
    features["usual_charge"] = inputs["TotalCharges"] / months
    features["charge_rise"] = inputs["MonthlyCharges"] - features["usual_charge"]
    features["extras"] = (inputs[EXTRAS] == "Yes").sum(axis=1)
    features["automatic"] = inputs["PaymentMethod"].str.endswith("(automatic)").astype("float64")
    return features
