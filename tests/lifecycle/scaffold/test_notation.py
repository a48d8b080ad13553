"""What `lifecycle init` makes of a file in another notation: the same data as of a plain one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.ingest import ingest
from lifecycle.data.preview import rehearse
from lifecycle.data.sources import read_source
from lifecycle.data.windows import first_window
from lifecycle.errors import ProjectError, SourceError, TargetError
from lifecycle.profiling.inputs import open_file
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.scaffold.dates import guess_formats
from lifecycle.scaffold.generate import infer_project
from lifecycle.scaffold.numbers import guess_numbers, plain_commas
from lifecycle.scaffold.source import ReadingOptions
from lifecycle.settings import Settings

ROWS = 400
Write = Callable[[pd.DataFrame], pd.DataFrame]


def plain_frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    days = pd.to_timedelta(rng.integers(0, 500, ROWS), unit="D")
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS),
            "plan": rng.choice(["basic", "plus"], ROWS),
            "spend": np.round(np.exp(rng.normal(6, 1.5, ROWS)), 2),
            "since": (pd.Timestamp("2024-01-01") + days).strftime("%Y-%m-%d"),
            "churn": rng.integers(0, 2, ROWS),
        }
    )


def write(folder: Path, frame: pd.DataFrame, separator: str = ",") -> Path:
    file = folder / "shop.csv"
    frame.to_csv(file, index=False, sep=separator)
    return file


def infer(file: Path, target: str = "churn", **options: Any) -> tuple[Project, list[str]]:
    text, said = infer_project(file, target, **options)
    place = file.parent / "project.yaml"
    place.write_text(text)
    return load_project(place), said


def amounts(form: Callable[[float], str]) -> Write:
    return lambda frame: frame.assign(spend=frame["spend"].map(form))


def times(form: str) -> Write:
    def made(frame: pd.DataFrame) -> pd.DataFrame:
        moments = pd.to_datetime(frame["since"])
        return frame.assign(since=moments.dt.strftime(form))

    return made


def counted(a_second: float) -> Write:
    def made(frame: pd.DataFrame) -> pd.DataFrame:
        seconds = pd.to_datetime(frame["since"]).astype("datetime64[s]").astype("int64")
        return frame.assign(since=(seconds * a_second).astype("int64"))

    return made


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def french(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans({",": "\u202f", ".": ","}))


@pytest.mark.parametrize(
    ("form", "separator", "source", "unit"),
    [
        (amounts(german), ";", {"decimal": ",", "thousands": "."}, ""),
        (amounts(german), ",", {"decimal": ",", "thousands": "."}, ""),
        (amounts(lambda v: f"{v:.2f}".replace(".", ",")), ";", {"decimal": ","}, ""),
        (amounts(lambda v: f"{french(v)} €"), ";", {"decimal": ",", "thousands": " "}, "€"),
        (amounts(lambda v: f"${v:,.2f}"), ",", {"thousands": ","}, "$"),
        (amounts(lambda v: f"EUR {german(v)}"), ";", {"decimal": ",", "thousands": "."}, "EUR"),
        (amounts(lambda v: f"{v:,.2f}".replace(",", "'")), ",", {"thousands": "'"}, ""),
        (amounts(lambda v: f"{v} %"), ",", {}, "%"),
        (amounts(lambda v: f"{v} kg"), ",", {}, "kg"),
        (times("%d/%m/%Y"), ",", {"dates": {"since": ("%d/%m/%Y",)}}, ""),
        (times("%d.%m.%y"), ",", {"dates": {"since": ("%d.%m.%y",)}}, ""),
        (times("%m/%d/%Y %I %p"), ",", {"dates": {"since": ("%m/%d/%Y %I %p",)}}, ""),
        (times("%Y/%m/%d"), ",", {"dates": {"since": ("%Y/%m/%d",)}}, ""),
        (times("%Y%m%d"), ",", {"dates": {"since": ("%Y%m%d",)}}, ""),
        (times("%d-%b-%Y %H:%M"), ",", {"dates": {"since": ("%d-%b-%Y %H:%M",)}}, ""),
        (counted(1), ",", {"dates": {"since": ("seconds",)}}, ""),
        (counted(1000), ",", {"dates": {"since": ("milliseconds",)}}, ""),
    ],
)
def test_a_file_in_another_notation_is_the_same_data(
    tmp_path: Path, form: Write, separator: str, source: dict[str, Any], unit: str
) -> None:
    plain = plain_frame()
    project, said = infer(write(tmp_path, form(plain), separator))
    declared = project.source.model_dump(exclude_defaults=True, exclude={"path", "separator"})
    expected = {
        key: {name: one[0] for name, one in value.items()} if key == "dates" else value
        for key, value in source.items()
    }
    assert declared == expected
    assert project.contract.columns["spend"].unit == unit
    assert project.time is not None
    assert project.ignore == ()
    for key in source:
        assert any(line.startswith(("decimal: ", "dates: ")) for line in said), key
    read = read_source(project)
    assert read["spend"].tolist() == plain["spend"].tolist()
    assert read["since"].tolist() == pd.to_datetime(plain["since"]).tolist()


def test_the_version_of_a_foreign_file_has_the_digest_of_the_plain_one(
    tmp_path: Path, settings: Settings
) -> None:
    frame = plain_frame()
    frame["gap"] = np.where(np.arange(ROWS) % 9 == 0, np.nan, frame["spend"])
    foreign = frame.assign(
        spend=frame["spend"].map(german),
        since=pd.to_datetime(frame["since"]).dt.strftime("%d.%m.%Y"),
        gap=[f"{v:.2f} €".replace(".", ",") if v == v else "k.A." for v in frame["gap"]],
    )
    digests = []
    for name, rows, separator in (("plain", frame, ","), ("foreign", foreign, ";")):
        (tmp_path / name).mkdir()
        project, _ = infer(write(tmp_path / name, rows, separator), name=name)
        made = ingest(project, settings, first_window(project))
        assert made.rows_rejected == 0
        digests.append(made.dataset.digest)
    assert digests[0] == digests[1]


def test_a_month_is_its_first_day(tmp_path: Path) -> None:
    for form in ("%Y-%m", "%m/%Y", "%Y%m"):
        project, _ = infer(write(tmp_path, times(form)(plain_frame())))
        assert project.source.dates == {"since": (form,)}
        months = pd.to_datetime(plain_frame()["since"]).dt.to_period("M").dt.start_time
        assert read_source(project)["since"].tolist() == months.tolist()


@pytest.mark.parametrize(("negative", "form"), [("parentheses", "($%s)"), ("trailing", "$%s-")])
def test_numbers_below_zero(tmp_path: Path, negative: str, form: str) -> None:
    frame = plain_frame()
    sign = np.where(np.arange(ROWS) % 7 == 0, -1, 1)
    cells = [
        form % f"{v:,.2f}" if s < 0 else f"${v:,.2f}"
        for s, v in zip(sign, frame["spend"], strict=True)
    ]
    project, _ = infer(write(tmp_path, frame.assign(spend=cells)))
    assert project.source.negative == negative
    assert read_source(project)["spend"].tolist() == (frame["spend"] * sign).tolist()


WORDS = ["#N/A", "?", "-", "n/a", "NULL", "(null)", "\\N", ".", "unknown", "-nan", "<NA>"]
WORDS += ["none", "#NULL!", "Null", "k.A."]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_missing_is_missing(tmp_path: Path, word: str) -> None:
    frame = plain_frame()
    gone = np.arange(ROWS) % 15 == 0
    for name in ("age", "since"):
        frame[name] = frame[name].astype(str).mask(gone, word)
    project, said = infer(write(tmp_path, frame))
    spec = project.contract.columns["age"]
    assert (spec.type, spec.nullable) == ("integer", True)
    assert project.contract.columns["since"].type == "datetime"
    if word != "NULL":  # the contract's types know it
        assert project.source.missing == (word,)
        line = f"missing: {word!r} means missing in age, since"
        assert any(one.startswith(line) for one in said)
    assert rehearse(project).accepted == ROWS
    assert any("since is a time, but missing in 6.8% of the rows" in one for one in said)


def test_one_time_missing_among_many_goes_to_quarantine(tmp_path: Path, settings: Settings) -> None:
    frame = times("%d/%m/%Y")(plain_frame())
    frame.loc[70, "since"] = "unknown"
    project, said = infer(write(tmp_path, frame))
    assert project.time is not None
    assert project.time.column == "since"
    assert "time: since is missing in row 71, which will be rejected" in said
    made = ingest(project, settings, first_window(project))
    assert made.rows_rejected == 1


def test_the_order_of_day_and_month_is_asked_for(tmp_path: Path) -> None:
    frame = plain_frame()
    days = pd.to_datetime(frame["since"])
    frame["since"] = [f"{min(d.day, 12):02d}/{d.month:02d}/{d.year}" for d in days]
    file = write(tmp_path, frame)
    project, said = infer(file)
    assert project.source.dates == {}
    assert project.time is None
    assert project.ignore == ("since",)
    line = next(one for one in said if one.startswith("ignore: since"))
    assert "'%d/%m/%Y' (day/month) or '%m/%d/%Y' (month/day)" in line
    assert "--dates 'since=%d/%m/%Y'" in line
    answered, _ = infer(file, reading=ReadingOptions(dates={"since": "%m/%d/%Y"}))
    assert answered.time is not None
    assert answered.source.dates == {"since": ("%m/%d/%Y",)}
    expected = pd.to_datetime(frame["since"], format="%m/%d/%Y").tolist()
    assert read_source(answered)["since"].tolist() == expected
    with pytest.raises(SourceError, match="--dates: since: '%d' has no year"):
        infer(file, reading=ReadingOptions(dates={"since": "%d"}))
    with pytest.raises(ProjectError, match=r"--dates: .* has no column 'sinse'"):
        infer(file, reading=ReadingOptions(dates={"sinse": "%d/%m/%Y"}))


def test_formats_that_are_mixed_are_told(tmp_path: Path) -> None:
    frame = plain_frame()
    days = pd.to_datetime(frame["since"])
    third = np.arange(ROWS) % 3 == 0
    frame["since"] = days.dt.strftime("%d/%m/%Y").mask(third, days.dt.strftime("%Y-%m-%d"))
    project, said = infer(write(tmp_path, frame))
    assert "dates: since is read as '%d/%m/%Y', and 34% of its cells as ISO 8601 has it" in said
    assert rehearse(project).accepted == rehearse(project).rows
    frame["since"] = days.dt.strftime("%d/%m/%Y").mask(third, days.dt.strftime("%m/%d/%Y"))
    project, said = infer(write(tmp_path, frame))
    assert project.time is None
    assert any("ignore: since mixes orders of day and month" in line for line in said)


def test_a_comma_that_may_be_both_is_asked_for_unless_another_column_tells(tmp_path: Path) -> None:
    frame = plain_frame().assign(spend=lambda f: (f["spend"] + 1000).map(lambda v: f"{v:,.0f}"))
    frame["spend"] = frame["spend"].str[-5:].str.replace(r"^[,0]+", "1", regex=True)
    frame["spend"] = [f"{i % 9 + 1},{i % 900 + 100}" for i in range(ROWS)]
    project, said = infer(write(tmp_path, frame))
    assert project.ignore == ("spend",)
    line = next(one for one in said if one.startswith("ignore: spend"))
    assert "write source.decimal: ','" in line.replace("Write", "write")
    assert "source.thousands: ','" in line
    with pytest.raises(TargetError, match="whose comma may stand before decimals"):
        infer(write(tmp_path, frame), "spend")
    project, _ = infer(write(tmp_path, frame.assign(rate=np.linspace(0, 1, ROWS).round(4))))
    assert project.source.thousands == ","
    rate = [f"{v:.4f}".replace(".", ",") for v in np.linspace(0, 1, ROWS)]
    project, _ = infer(write(tmp_path, frame.assign(rate=rate)))
    assert (project.source.decimal, project.source.thousands) == (",", "")


def test_plain_columns_beside_others_stay_plain(tmp_path: Path) -> None:
    frame = amounts(german)(plain_frame()).assign(lat=np.linspace(52, 53, ROWS).round(4))
    project, said = infer(write(tmp_path, frame, ";"))
    assert project.source.plain == ("lat",)
    assert "plain: lat, with a decimal point and no thousands" in said
    assert read_source(project)["lat"].tolist() == frame["lat"].tolist()


def test_units_that_differ_and_other_words_are_told(tmp_path: Path) -> None:
    frame = plain_frame()
    coins = [f"{'$' if i % 3 else '€'}{v}" for i, v in enumerate(frame["spend"])]
    words = frame["spend"].astype(str).mask(np.arange(ROWS) % 20 == 0, "see file")
    project, said = infer(write(tmp_path, frame.assign(coins=coins, words=words)))
    assert set(project.ignore) == {"coins", "words"}
    told = "\n".join(said)
    assert "it has numbers in several units ('$' in 6" in told
    assert (
        "looks like numbers in 95% of its cells, and the others are none: 'see file' (20)" in told
    )
    assert "write source.missing: ['see file']" in told


def test_infinite_numbers_are_missing_by_declaration(tmp_path: Path) -> None:
    frame = plain_frame()
    cells = frame["spend"].astype(str).mask(np.arange(ROWS) % 50 == 0, "inf")
    project, said = infer(
        write(tmp_path, frame.assign(spend=cells.mask(cells.index == 7, "-Infinity")))
    )
    assert project.source.missing == ("inf", "-Infinity")
    assert any("a model takes no infinite number" in line for line in said)
    assert rehearse(project).accepted == rehearse(project).rows
    floats = frame["spend"].where(np.arange(ROWS) % 50 != 0, np.inf)
    frame.assign(spend=floats).to_parquet(tmp_path / "shop.parquet")
    project, _ = infer(tmp_path / "shop.parquet")
    assert project.source.missing == ("inf",)
    assert read_source(project)["spend"].isna().sum() == ROWS // 50


@pytest.mark.parametrize("column", ["gaps", "shuffled", "doubled"])
def test_numbers_of_rows_are_no_features(tmp_path: Path, column: str) -> None:
    rng = np.random.default_rng(1)
    numbers = {
        "gaps": np.cumsum(rng.integers(1, 900, ROWS)),
        "shuffled": rng.permutation(ROWS * 3)[:ROWS] + 1000,
        "doubled": np.append(rng.permutation(ROWS)[: ROWS - 1] + 1, 7),
    }
    frame = plain_frame().assign(customer=numbers[column], spend=lambda f: f["spend"].round())
    project, said = infer(write(tmp_path, frame))
    assert project.ignore == ("customer",)
    assert any(line.startswith("ignore: customer numbers the rows") for line in said)
    assert "spend" in project.input_columns


def test_labels_with_a_point_are_whole(tmp_path: Path) -> None:
    frame = plain_frame().astype({"churn": float})
    project, said = infer(write(tmp_path, frame))
    assert repr(project.positive) == "1"
    assert project.contract.columns["churn"].type == "integer"
    assert "task: binary, because churn has two values (0, 1)" in said
    assert rehearse(project).accepted == rehearse(project).rows


def test_labels_that_differ_in_case_and_blanks_are_one_class(tmp_path: Path) -> None:
    frame = plain_frame()
    texts = ["No", "Yes", "no", "YES ", "?"]
    at = frame["churn"] + 2 * (np.arange(ROWS) % 5 == 0)
    labels = [texts[4 if i % 40 == 0 else n] for i, n in enumerate(at)]
    project, said = infer(write(tmp_path, frame.assign(churn=labels)))
    assert project.task == "binary"
    assert project.positive == "Yes"
    assert project.source.spellings == {"churn": {"No": ("no",), "Yes": ("YES ",)}}
    assert project.source.missing == ("?",)
    told = "\n".join(said)
    assert "spellings: churn: 'YES ' means 'Yes', since they differ in case or blanks only" in told
    assert "missing: churn is '?' in 10 rows, which is no class" in told
    assert set(read_source(project)["churn"].dropna()) == {"No", "Yes"}
    assert rehearse(project).violations == ()


def test_a_label_that_may_be_a_class_stays_one_and_is_told(tmp_path: Path) -> None:
    frame = plain_frame()
    labels = np.where(np.arange(ROWS) % 4 == 0, "none", np.where(frame["churn"], "mild", "severe"))
    project, said = infer(write(tmp_path, frame.assign(churn=labels)))
    assert project.task == "multiclass"
    assert any("if that means missing, write source.missing: ['none']" in one for one in said)
    frame["churn"] = np.where(np.arange(ROWS) % 4 == 0, "A", np.where(frame["churn"], "a", "b"))
    project, said = infer(write(tmp_path, frame))
    assert project.source.spellings == {}
    assert any("'a'" in one and "which differ in case only" in one for one in said)


def test_spellings_of_categories_are_told(tmp_path: Path) -> None:
    frame = plain_frame()
    frame.loc[::9, "plan"] = "Basic "
    _, said = infer(write(tmp_path, frame))
    told = "\n".join(said)
    assert "spellings: plan: 'Basic ' and 'basic' differ in case or blanks only" in told
    assert "source.spellings: {plan: {basic: ['Basic ']}}" in told


def test_excel_and_json_lines_are_read_as_csv_is(tmp_path: Path) -> None:
    frame = amounts(german)(times("%d/%m/%Y")(plain_frame()))
    plain = plain_frame()
    frame.to_excel(tmp_path / "shop.xlsx", index=False)
    frame.to_json(tmp_path / "shop.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "shop.parquet")
    for name in ("shop.xlsx", "shop.jsonl", "shop.parquet"):
        project, _ = infer(tmp_path / name)
        assert project.source.decimal == ",", name
        read = read_source(project)
        assert read["spend"].tolist() == plain["spend"].tolist(), name
        assert read["since"].tolist() == pd.to_datetime(plain["since"]).tolist(), name


def test_numbers_among_texts_keep_their_value(tmp_path: Path) -> None:
    """A cell of Excel that is a number is no text with a point between thousands."""
    frame = amounts(german)(plain_frame())
    cells: list[Any] = frame["spend"].tolist()
    cells[:50] = [1.234, 2, *plain_frame()["spend"].tolist()[2:50]]
    frame.assign(spend=pd.Series(cells, dtype=object)).to_excel(tmp_path / "s.xlsx", index=False)
    frame.assign(spend=pd.Series(cells, dtype=object)).to_json(
        tmp_path / "s.jsonl", orient="records", lines=True
    )
    for name, kind in (("s.xlsx", "excel"), ("s.jsonl", "jsonl")):
        (tmp_path / "project.yaml").write_text(
            "name: shop\ntask: binary\ntarget: churn\n"
            f"source: {{path: {name}, format: {kind}, decimal: ',', thousands: .}}\n"
            "contract:\n  columns:\n    spend: {type: number}\n    churn: {type: integer}\n"
        )
        read = read_source(load_project(tmp_path / "project.yaml"))
        expected = [1.234, 2.0, *plain_frame()["spend"].tolist()[2:]]
        assert read["spend"].tolist() == expected, name


def test_a_profile_of_a_file_reads_it_as_init_does(tmp_path: Path) -> None:
    frame = amounts(german)(times("%d/%m/%Y")(plain_frame()))
    opened = open_file(write(tmp_path, frame, ";"), "churn")
    batches = [batch for batch in opened.batches if batch.num_rows]
    spend = [value for batch in batches for value in batch["spend"].to_pylist()]
    assert spend == plain_frame()["spend"].tolist()
    assert opened.schema.time == "since"


def test_plain_files_declare_nothing(tmp_path: Path) -> None:
    project, _ = infer(write(tmp_path, plain_frame()))
    assert project.source.model_dump(exclude_defaults=True) == {"path": "shop.csv"}


@given(
    st.lists(
        st.from_regex(r"[+-]?([0-9]{1,9}(,[0-9]{1,4})?|,[0-9]{1,3}|[0-9]{1,3}(,[0-9]{3}){1,3})\Z"),
        min_size=1,
        max_size=12,
    )
)
def test_plain_commas_are_what_the_long_way_finds(cells: list[str]) -> None:
    counts = pd.Series(cells).value_counts()
    fast = plain_commas(pa.array(cells, pa.string()))
    if fast is not None:
        assert guess_numbers(counts) == fast
        assert guess_formats(counts, "x") is None
    told = [cell for cell in cells if re.fullmatch(r"[0-9]+,[0-9]{1,2}", cell)]
    if len(told) == len(cells):
        assert fast is not None
