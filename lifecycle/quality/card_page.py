"""A model card for people: one list of sections, as Markdown and as an HTML page."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from lifecycle.project import Scalar
from lifecycle.quality.card import ModelCard, claims, fairness_limit
from lifecycle.quality.findings import one_line
from lifecycle.records import Estimate, Gap
from lifecycle.runtime.html import Cell, PageSection, Table, Tone, page

CARD_MARKDOWN, CARD_HTML = "model_card.md", "model_card.html"
NONE = "–"
DRAFT = "draft"
DIGEST = re.compile("[0-9a-f]{32,64}")
TONES: dict[str, Tone] = {"draft": "warn", "approved": "good"}


def card_sections(card: ModelCard, history: Sequence[str] = ()) -> list[PageSection]:
    """The sections of a card, under the headings of Mitchell et al. (2019).

    Args:
        history: what became of the version and what people noted of it, a sentence each.
    """
    return [
        _details(card),
        PageSection("Intended use", text=_use(card)),
        PageSection("Factors", points=tuple(_factors(card))),
        _metrics(card),
        _evaluation_data(card),
        _training_data(card),
        _analyses(card),
        _slices(card),
        _fairness(card),
        _checks(card),
        _gate(card),
        PageSection("Caveats and recommendations", points=_caveats(card)),
        PageSection("Decisions and notes", points=tuple(history) or ("None yet.",)),
    ]


def markdown(card: ModelCard, status: str = DRAFT, history: Sequence[str] = ()) -> str:
    """A card as Markdown."""
    blocks = [f"# {title(card)}", f"**Status: {status}.**"]
    for section in card_sections(card, history):
        blocks.append(f"## {section.title}")
        blocks += [_escaped(text) for text in section.text]
        points = [point if isinstance(point, str) else point.text for point in section.points]
        if points:
            blocks.append("\n".join(f"- {_escaped(point)}" for point in points))
        blocks += [_grid(table) for table in (section.table, section.more) if table]
    return "\n\n".join(blocks) + "\n"


def card_page(card: ModelCard, status: str = DRAFT, history: Sequence[str] = ()) -> str:
    """A card as a page that opens without a network."""
    sections = [_without_marks(section) for section in card_sections(card, history)]
    verdict = Cell(f"Status: {status}", TONES.get(status, "plain"))
    return page(title(card), sections, lead=_in_brief(card), verdict=verdict)


def _in_brief(card: ModelCard) -> str:
    """The deciding metric with its interval, beside the baseline's: figures come first."""
    measured, metric = card.measured, card.declared.metric
    estimate, trivial = measured.metrics.get(metric), measured.baseline_metrics.get(metric)
    if estimate is None:
        return ""
    comparison = f"; {measured.baseline} {trivial.value:.4g}" if trivial else ""
    return (
        f"{metric} {estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g}) on "
        f"{measured.holdout_rows:,} rows that it did not learn from{comparison}."
    )


def title(card: ModelCard) -> str:
    """`Model card: churn v3`; without a number before it is registered."""
    version = f" v{card.model.version}" if card.model.version else ""
    return f"Model card: {card.model.name}{version}"


# Two cards side by side.


def difference_table(first: ModelCard, other: ModelCard) -> Table:
    """Every claim in which two cards differ; digests, which say only that, come last."""
    first_claims, other_claims = (_all_claims(card) for card in (first, other))
    names = [
        name
        for name in dict.fromkeys((*first_claims, *other_claims))
        if first_claims.get(name) != other_claims.get(name)
    ]
    names.sort(key=lambda name: _is_digest(first_claims.get(name, other_claims.get(name))))
    rows = tuple(
        (name, _text(first_claims.get(name)), _text(other_claims.get(name))) for name in names
    )
    return Table(("claim", f"v{first.model.version}", f"v{other.model.version}"), rows)


def difference_page(first: ModelCard, other: ModelCard) -> str:
    """Two cards side by side: the differences first, then each section of both."""
    pair = zip(card_sections(first), card_sections(other), strict=True)
    names = [f"v{card.model.version}" for card in (first, other)]
    sections = [
        PageSection("Claims that differ", table=difference_table(first, other)),
        *chain.from_iterable(_side_by_side(names, *both) for both in pair),
    ]
    return page(
        f"Model cards: {first.model.name} {names[0]} and {names[1]}",
        sections,
        lead="What differs comes first; then both cards, section by section.",
    )


def _side_by_side(
    names: Sequence[str], first: PageSection, other: PageSection
) -> Iterable[PageSection]:
    """A section of both; one that is the same in both is folded."""
    if first == other:
        heading = f"{first.title} (the same)"
        yield _without_marks(replace(first, title=heading, folded=True))
        return
    for name, section in zip(names, (first, other), strict=True):
        yield _without_marks(replace(section, title=f"{first.title}, {name}"))


def _all_claims(card: ModelCard) -> dict[str, Scalar | None]:
    return dict(
        chain(claims(card.declared, "declared"), claims(card.measured, "measured")),
    )


def _text(value: Scalar | None) -> str:
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)[:12] if _is_digest(value) else str(value)


def _is_digest(value: Scalar | None) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


# The sections.


def _details(card: ModelCard) -> PageSection:
    declared, measured = card.declared, card.measured
    version = f"`{card.model.name}`" + (f" v{card.model.version}" if card.model.version else "")
    identity = measured.identity
    points = [
        f"**Model:** {version}, bundle `{measured.digest}`, {measured.rounds:,} rounds.",
        f"**Owner:** {declared.owner or 'the contract names none (`contract.owner`)'}.",
        f"**Licence:** {declared.licence or 'no LICENCE file is beside the project file'}.",
        f"**Identity:** `{identity.digest}` (data `{identity.data[:12]}`, code "
        f"`{identity.code[:12]}`, lock `{identity.lock[:12]}`, project `{identity.project[:12]}`, "
        f"seed {identity.seed}).",
    ]
    if measured.origin:
        points.append(
            f"**Promoted from** {measured.origin}, where it learned from "
            f"{measured.origin_rows or 0:,} rows. The parts below are those of the environment "
            "that it was promoted to; it learned from none of them."
        )
    return PageSection("Model details", points=tuple(points))


def _use(card: ModelCard) -> tuple[str, ...]:
    purpose = card.declared.purpose or "The project file says no purpose."
    return (purpose, card.declared.predicts)


def _factors(card: ModelCard) -> Iterable[str]:
    declared = card.declared
    hook = f" They pass through `{declared.hook}`." if declared.hook else ""
    yield f"**Inputs:** {_names(declared.inputs)}.{hook}"
    yield f"**Leakage, refused as features:** {_names(declared.leakage)}."
    used = [name for name in declared.protected if name in declared.inputs]
    text = f"**Protected attributes:** {_names(declared.protected)}."
    if used:
        text += f" **Used as inputs:** {_names(used)}."
    elif declared.protected:
        text += " None is an input; other inputs may still stand in for them."
    yield text
    yield f"**Ignored:** {_names(declared.ignored)}."


def _metrics(card: ModelCard) -> PageSection:
    declared, measured = card.declared, card.measured
    floor = "" if declared.floor is None else f" Its floor is {declared.floor:.4g}."
    lines = [f"`{declared.metric}` decides.{floor}"]
    if measured.method:
        lines.append(f"Intervals: {measured.method}.")
    if measured.threshold is not None:
        lines.append(f"A row counts as positive from a probability of {measured.threshold:.4g}.")
    if measured.noise:
        lines.append(
            f"Over {len(measured.noise.values)} training seeds `{measured.noise.metric}` has a "
            f"standard deviation of {measured.noise.deviation:.4g}."
        )
    return PageSection("Metrics", text=tuple(lines))


def _evaluation_data(card: ModelCard) -> PageSection:
    text = f"{card.measured.holdout_rows:,} rows that no choice of the training has seen."
    return PageSection("Evaluation data", text=(text,), table=_part_table(card, ("holdout",)))


def _training_data(card: ModelCard) -> PageSection:
    declared, measured = card.declared, card.measured
    learned = "" if measured.origin else f" {declared.learned_from}"
    contract = f"under version {measured.contract} of the contract" if measured.contract else ""
    contract = contract or "whose contract the lake has not noted"
    return PageSection(
        "Training data",
        text=(
            f"Source: `{declared.source}`, {contract}. "
            f"Split: {one_line(measured.rule)} {measured.withheld:,} rows are in none of the parts."
            f"{learned}",
        ),
        table=_part_table(card, ("train", "validation")),
    )


def _part_table(card: ModelCard, names: Sequence[str]) -> Table:
    parts = ((name, card.measured.parts[name]) for name in names if name in card.measured.parts)
    rows = tuple(
        (name, f"{part.rows:,}", f"{part.table}@{part.version}", f"`{part.digest[:12]}`")
        for name, part in parts
    )
    return Table(("part", "rows", "version", "digest"), rows)


def _analyses(card: ModelCard) -> PageSection:
    measured = card.measured
    rows = [
        (
            f"**{name}** (decides)" if name == card.declared.metric else name,
            *_estimate(estimate),
            f"{measured.baseline_metrics[name].value:.4g}"
            if name in measured.baseline_metrics
            else NONE,
        )
        for name, estimate in measured.metrics.items()
    ]
    rows += [
        (f"{name}, at the threshold", *_estimate(estimate), NONE)
        for name, estimate in measured.at_threshold.items()
    ]
    if measured.calibration_error is not None:
        rows.append(("expected calibration error", f"{measured.calibration_error:.4g}", NONE, NONE))
    return PageSection(
        "Quantitative analyses",
        text=(f"On the {measured.holdout_rows:,} rows of the holdout.",),
        table=Table(("metric", "value", "95 % interval", measured.baseline), tuple(rows)),
    )


def _slices(card: ModelCard) -> PageSection:
    rows = tuple(
        (
            part.by,
            part.value,
            f"{part.rows:,}",
            *(_estimate(part.estimate) if part.estimate else (part.note, NONE)),
        )
        for part in card.measured.slices.values()
    )
    if not rows:
        return PageSection("Slices", text=("No slice was measured apart.",))
    metric = card.declared.metric
    return PageSection(
        "Slices", table=Table(("by", "value", "rows", metric, "95 % interval"), rows)
    )


def _fairness(card: ModelCard) -> PageSection:
    heading = "Ethical considerations"
    if not card.measured.gaps:
        return PageSection(heading, text=("No gap between protected groups was measured.",))
    rows = tuple(
        (
            gap.attribute,
            gap.measure,
            f"{gap.value:.4g}",
            NONE if gap.low is None or gap.high is None else f"{gap.low:.4g} to {gap.high:.4g}",
            NONE if (limit := _limit(card, gap)) is None else f"{limit:.4g}",
            gap.lowest,
            gap.highest,
        )
        for gap in card.measured.gaps.values()
    )
    header = ("attribute", "measure", "gap", "95 % interval", "limit", "lowest", "highest")
    return PageSection(
        heading,
        text=("The largest difference between the groups of each protected attribute.",),
        table=Table(header, rows),
    )


def _limit(card: ModelCard, gap: Gap) -> float | None:
    return fairness_limit(card.declared.fairness_limits, card.declared.metric, gap)


def _checks(card: ModelCard) -> PageSection:
    measured = card.measured
    number, rows = len(measured.passed_checks), measured.checked_rows
    text = f"{number} passed; each looked at {rows:,} rows at most."
    accepted = card.declared.accepted_checks.items()
    points = [
        *(f"failed: {name}: {check}" for name, check in measured.failed_checks.items()),
        *(f"accepted: {name}: {one_line(reason)}" for name, reason in accepted),
        *(f"warning: {name}: {check}" for name, check in measured.warned_checks.items()),
        *(f"not run: {name}: {reason}" for name, reason in measured.checks_not_run.items()),
    ]
    if measured.passed_checks:
        points.append(f"passed: {', '.join(measured.passed_checks)}")
    return PageSection(
        "Checks", text=(text if rows else "No suite was run.",), points=tuple(points)
    )


def _gate(card: ModelCard) -> PageSection:
    decision = card.measured.decision
    verdict = "passed" if decision.passed else "not passed"
    return PageSection(f"Gate `{decision.gate}`: {verdict}", points=decision.reasons)


def _caveats(card: ModelCard) -> tuple[str, ...]:
    return (*card.measured.warnings, *card.declared.limits)


# Words, Markdown and HTML.


def _estimate(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.4g}", f"{estimate.low:.4g} to {estimate.high:.4g}"


def _names(names: Iterable[Scalar]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _grid(table: Table) -> str:
    """A Markdown table; a `|` inside a cell is escaped."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    texts = ([cell if isinstance(cell, str) else cell.text for cell in line] for line in lines)
    cells = ([_escaped(cell).replace("|", "\\|") for cell in line] for line in texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _without_marks(section: PageSection) -> PageSection:
    """A section without the marks of Markdown, for a page."""
    table = section.table
    if table:
        rows = tuple(
            tuple(_plain(cell) if isinstance(cell, str) else cell for cell in row)
            for row in table.rows
        )
        table = Table(tuple(map(_plain, table.header)), rows)
    return replace(
        section,
        title=_plain(section.title),
        text=tuple(map(_plain, section.text)),
        points=tuple(
            _plain(point) if isinstance(point, str) else point for point in section.points
        ),
        table=table,
    )


def _plain(text: str) -> str:
    return re.sub(r"\*\*|`", "", text)
