"""What every source keeps, wherever the rows are."""

import logging
import traceback

import pytest

from lifecycle.data.sources.base import Source
from lifecycle.errors import BackendError, FeatureError, SourceError
from lifecycle.project import Project
from tests.support.makers import Opener
from tests.support.places import NAMES, TYPES, Place, Rows, rows

USABLE = (SourceError, BackendError, FeatureError)


def read(source: Source, project: Project, **how: object) -> Rows:
    found: Rows = []
    for batch in source.batches(project.contract.columns, **how):  # type: ignore[arg-type]
        assert 0 < batch.num_rows <= 65_536
        found += batch.to_pylist()
    return found


def by_id(data: Rows) -> Rows:
    return sorted(data, key=lambda row: row["id"])


def test_the_same_rows_everywhere(place: Place, opened: Opener, project: Project) -> None:
    data = rows()
    place.put(data)
    found = read(opened(project), project)
    assert by_id(found) == data
    if place.ordered:
        assert found == data


def test_columns_have_the_types_the_contract_asks_for(
    place: Place, opened: Opener, project: Project
) -> None:
    place.put(rows())
    for batch in opened(project).batches(project.contract.columns):
        kinds = {name: TYPES[name] for name in batch.schema.names}
        assert {field.name: field.type for field in batch.schema} == kinds
        assert set(kinds) == set(NAMES)


def test_wanted_columns_are_given_whatever_comes_with_them(
    place: Place, opened: Opener, project: Project
) -> None:
    place.put(rows())
    source = opened(project)
    every = [row["id"] for row in read(source, project)]
    assert [row["id"] for row in read(source, project, subset=("id",))] == every
    assert read(source, project, subset=("nowhere",)) == read(source, project)


def test_equal_content_has_an_equal_digest_and_a_change_another(
    place: Place, opened: Opener, project: Project
) -> None:
    place.put(rows())
    first = opened(project).parts()
    assert opened(project).parts() == first
    assert len({part.name for part in first}) == len(first)
    place.put([*rows(39), rows(1, 39)[0] | {"note": "another"}])
    second = opened(project).parts()
    assert {part.digest for part in second} != {part.digest for part in first}


def test_parts_are_read_alone_and_together_are_all(
    place: Place, opened: Opener, project: Project
) -> None:
    place.put(rows())
    source = opened(project)
    names = [part.name for part in source.parts()]
    alone = [row for name in names for row in read(source, project, only={name})]
    assert alone == read(source, project)
    assert read(source, project, only=()) == []


def test_what_changes_after_the_digest_is_noticed_or_not_seen(
    place: Place, opened: Opener, project: Project
) -> None:
    place.put(rows())
    source = opened(project)
    source.parts()
    place.put(rows(50))
    try:
        found = read(source, project)
    except SourceError as error:
        assert "changed while it was read; run again" in str(error)  # noqa: PT017
    else:
        assert by_id(found) == rows()


def test_nothing_there(place: Place, opened: Opener, project: Project) -> None:
    place.put(rows())
    place.clear()
    for act in (lambda s: s.parts(), lambda s: read(s, project)):
        with pytest.raises(USABLE, match=r"\bno\b|neither|not exist|missing"):
            act(opened(project))


def test_unreadable(place: Place, opened: Opener, project: Project) -> None:
    place.spoil()
    with pytest.raises(USABLE) as caught:
        read(opened(project), project)
    assert "\n" not in str(caught.value)


def test_no_rows(place: Place, opened: Opener, project: Project) -> None:
    place.put([])
    with pytest.raises(SourceError, match=r"no rows|is empty"):
        read(opened(project), project)


def test_two_columns_of_one_name(place: Place, opened: Opener, project: Project) -> None:
    if not place.twice:
        return
    place.put(rows(), [*NAMES, "code"])
    with pytest.raises(SourceError, match="more than one 'code'"):
        read(opened(project), project)


def test_a_cell_that_does_not_fit_makes_its_column_text(
    place: Place, opened: Opener, project: Project
) -> None:
    """Nothing is lost or guessed: what becomes of the cell is the contract's to say."""
    place.put(rows())
    other = project.contract.columns | {
        "code": project.contract.columns["visits"],
        "note": project.contract.columns["weight"],
    }
    found = [row for batch in opened(project).batches(other) for row in batch.to_pylist()]
    assert [row["note"] for row in by_id(found)] == [row["note"] for row in rows()]
    assert [row["code"] for row in by_id(found)] == [row["id"] for row in rows()]


def test_no_credential_is_ever_said(
    place: Place, opened: Opener, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    if not place.secret:
        return
    caplog.set_level(logging.DEBUG)
    said = []
    for act in (lambda: place.put(rows()), place.spoil, place.clear):
        act()
        source = opened(project)
        try:
            said.append(repr(source.parts()))
            read(source, project)
        except USABLE as error:
            said += [str(error), "".join(traceback.format_exception(error))]
        said += [repr(source), source.place, repr(vars(source)), repr(project)]
    text = "\n".join([*said, caplog.text])
    assert len(said) > 9
    assert place.secret not in text
