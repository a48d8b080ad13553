"""The evaluation report says what was found, holds its pictures, and opens without a network."""

import re

import pytest

from lifecycle.quality.evaluation_page import evaluation_page, write_evaluation
from lifecycle.records import Evaluated, Gain
from lifecycle.training.evaluation import assess


@pytest.fixture
def made(make_project, train, settings):
    project = make_project(
        protected=["city"],
        inputs=["age", "visits", "city"],
        evaluation={"slices": ["visits"], "segments": {"<b>few": "age > 76"}, "min_rows": 20},
    )
    return train(project, settings)


@pytest.fixture
def evaluated(made):
    answers = assess.answer(made.project, made.split.holdout, made.bundle.path, made.bundle.digest)
    plain = assess.assess(made.project, answers, made.split.holdout, "candidate")
    closer = assess.assess_closely(made.project, answers, plain)
    baseline, gain = assess.assess_baseline(made.project, made.split, answers)
    found = Evaluated(
        candidate=closer,
        baseline=baseline,
        champion=None,
        gain_over_baseline=gain,
        gain_over_champion=None,
    )
    return found, assess.draw(made.project, answers, closer, made.bundle)


def test_the_report_is_one_file_with_everything_in_it(made, evaluated, tmp_path):
    found, figures = evaluated
    written = write_evaluation(
        made.project, made.split, made.bundle, found, figures, tmp_path / "report"
    )
    html = written.report.read_text()
    assert written.report == tmp_path / "report" / "evaluation.html"
    for title in ("Metrics", "Quality", "Slices", "Fairness", "What was learned", "Origin"):
        assert f"<h2>{title}</h2>" in html
    assert html.count("data:image/png;base64,") == len(figures) == len(written.plots)
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in written.plots)
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "roc_auc (decides)" in html
    assert "demographic parity difference" in html
    assert "&lt;b&gt;few" in html
    assert "not measured: fewer than 20 rows" in html
    assert made.bundle.digest in html
    assert f"then fitted on both parts, with the {made.bundle.rounds} rounds kept" in html
    assert "<h2>Warnings</h2>" not in html
    warned = found.candidate.model_copy(update={"warnings": ("Only 2 rounds.",)})
    found = found.model_copy(update={"candidate": warned})
    html = evaluation_page(made.project, made.split, made.bundle, found, {})
    assert re.search("<h2>Warnings</h2>.*Only 2 rounds", html, re.DOTALL)
    assert "400 bootstrap resamples of whole entities" in html
    assert not list(tmp_path.glob("report/**/.*"))  # nothing is left aside


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.03, "Better than"), (-0.03, 0.03, "No difference"), (-0.03, -0.01, "Worse than")],
)
def test_the_verdict_is_the_paired_gain(made, evaluated, low, high, verdict):
    found, _ = evaluated
    champion = found.candidate.model_copy(update={"subject": "champion v3"})
    middle = (low + high) / 2
    gain = Gain(value=middle, low=low, high=high, least=(low + middle) / 2, confidence=0.9)
    against = found.model_copy(update={"champion": champion, "gain_over_champion": gain})
    html = evaluation_page(made.project, made.split, made.bundle, against, {})
    assert re.search(rf'class="verdict \w+">{verdict} .*champion v3', html)


def test_groups_that_cannot_be_compared_are_named(made, evaluated):
    found, _ = evaluated
    bare = found.candidate.model_copy(update={"gaps": (), "slices": ()})
    html = evaluation_page(
        made.project, made.split, made.bundle, found.model_copy(update={"candidate": bare}), {}
    )
    assert "Nothing to compare for city" in html
    assert "<h2>Slices</h2>" not in html
