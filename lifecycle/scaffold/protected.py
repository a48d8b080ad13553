"""Columns that hold protected attributes, recognised by their names: said, never acted on.

The attributes are those of EU directives 2000/43/EC and 2000/78/EC, the US Equal Credit Opportunity
Act and the Fair Housing Act, as data sets usually name them.
"""

import re
from collections.abc import Iterable

WORDS = {
    "sex",
    "sexe",
    "sexo",
    "gender",
    "geschlecht",
    "genero",
    "male",
    "female",
    "age",
    "ages",
    "alter",
    "edad",
    "birthday",
    "birthdate",
    "birthyear",
    "dob",
    "yob",
    "geburtsdatum",
    "senior",
    "seniorcitizen",
    "elderly",
    "race",
    "racial",
    "ethnic",
    "ethnicity",
    "ethnie",
    "religion",
    "religious",
    "faith",
    "marital",
    "maritalstatus",
    "married",
    "marriage",
    "spouse",
    "divorced",
    "widowed",
    "civilstatus",
    "familienstand",
    "disability",
    "disabled",
    "handicap",
    "handicapped",
    "nationality",
    "citizenship",
    "citizen",
    "immigrant",
    "immigration",
    "foreigner",
    "migrant",
    "pregnant",
    "pregnancy",
    "maternity",
    "transgender",
    "veteran",
}
"""Words of a column's name, in lower case."""
PHRASES = (
    ("native", "country"),
    ("mother", "tongue"),
    ("country", "birth"),
    ("place", "birth"),
    ("date", "birth"),
    ("year", "birth"),
    ("civil", "status"),
    ("family", "status"),
    ("foreign", "worker"),
    ("skin", "color"),
    ("skin", "colour"),
    ("sexual", "orientation"),
)
"""Words that count where a name has all of them."""
THINGS = {
    "account",
    "building",
    "car",
    "company",
    "contract",
    "device",
    "equipment",
    "firm",
    "home",
    "house",
    "houses",
    "housing",
    "item",
    "loan",
    "machine",
    "plant",
    "policy",
    "product",
    "property",
    "rate",
    "stock",
    "tree",
    "vehicle",
    "wine",
}
"""Words of a thing's attribute, such as `housing_median_age`, or of an opinion on one."""
SPLIT = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def protected_attributes(names: Iterable[str]) -> list[str]:
    """The names that a protected attribute usually has, in their order.

    `PatientAge`, `age_group` and `SEX` count; `page`, `usage` and `house_age` do not.
    """
    return [name for name in names if _is_protected(name)]


def _is_protected(name: str) -> bool:
    words = {word.lower() for word in SPLIT.findall(name)}
    words.add("".join(char for char in name.lower() if char.isalpha()))
    if words & THINGS:
        return False
    return bool(words & WORDS) or any(words.issuperset(phrase) for phrase in PHRASES)
