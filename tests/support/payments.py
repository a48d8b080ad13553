"""Customers with a row a year, and what they paid when: data for tests of feature views."""

from typing import Any

import numpy as np
import pandas as pd

YEARS = (1, 2, 3, 4)
PROJECT: dict[str, Any] = {
    "time": {"column": "year"},
    "contract": {
        "columns": {
            "customer": {"type": "integer"},
            "year": {"type": "integer"},
            "age": {"type": "number"},
            "bought": {"type": "integer", "minimum": 0, "maximum": 1},
        }
    },
    "split": {"holdout": 0.4, "validation": 0.2},
}
FUNCTIONS = '''
import pandas as pd


def spending(facts):
    """What was paid so far, how often, and where the last time."""
    amounts = facts.groupby("customer")["amount"]
    return pd.DataFrame({
        "total": amounts.cumsum(),
        "times": amounts.cumcount() + 1,
        "shop": facts["shop"],
        "large": facts["amount"] > 50,
    })


def average(facts):
    made = spending(facts)
    return made.assign(total=facts.groupby("customer")["amount"].transform("mean"))


def everybody(facts):
    return spending(facts).assign(total=facts["amount"].cumsum())
'''


def view(**changes: Any) -> dict[str, Any]:
    declared: dict[str, Any] = {
        "source": {"path": "payments.csv"},
        "columns": {
            "customer": {"type": "integer"},
            "year": {"type": "integer"},
            "amount": {"type": "number"},
            "shop": {"type": "category", "categories": ["north", "south"]},
        },
        "key": "customer",
        "time": "year",
        "function": "spending:spending",
        "features": {
            "total": {"type": "number"},
            "times": {"type": "integer"},
            "shop": {"type": "category", "categories": ["north", "south"]},
            "large": {"type": "boolean"},
        },
    }
    return declared | changes


def payments(seed: int = 1, people: int = 60) -> pd.DataFrame:
    """Facts in no order; one in five customers has none, several are of one year."""
    draw = np.random.default_rng(seed)
    rows = people * 5
    customer = draw.integers(0, people, rows)
    facts = pd.DataFrame(
        {
            "customer": customer + 1000,
            "year": draw.integers(0, 5, rows),
            "amount": draw.gamma(2.0, 20.0, rows).round(2),
            "shop": draw.choice(["north", "south"], rows),
        }
    )
    return facts[customer % 5 != 0].reset_index(drop=True)


def customers(people: int = 60) -> pd.DataFrame:
    """A row a customer and year; who paid much before buys."""
    draw = np.random.default_rng(7)
    index = pd.MultiIndex.from_product([range(1000, 1000 + people), YEARS])
    frame = index.to_frame(index=False, name=["customer", "year"])
    frame["age"] = draw.integers(18, 80, len(frame)).astype(float)
    facts = payments()
    paid = [
        facts.loc[(facts.customer == who) & (facts.year < year), "amount"].sum()
        for who, year in zip(frame.customer, frame.year, strict=True)
    ]
    score = np.array(paid) / 100 + draw.random(len(frame))
    return frame.assign(bought=(score > np.median(score)).astype(int))
