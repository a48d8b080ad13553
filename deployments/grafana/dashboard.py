"""The Grafana dashboard of a project; `python -m deployments.grafana.dashboard` writes it.

Made with Grafana's own typed library; a test runs every query against a real Prometheus.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

FILE = Path(__file__).with_name("lifecycle.json")
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
BOTH = '__name__=~"lifecycle_(monitoring|live)_{}",project="$project"'
"""Of scored tables and of the prediction log, which have the same gauges."""
PROJECTS = '{__name__=~"lifecycle_(monitoring|live)_rows"}'
"""Series that say which projects there are: some are monitored by what they answer alone."""


class Query(NamedTuple):
    """A query, and what its series are called."""

    expression: str
    legend: str = ""


class Graph(NamedTuple):
    """A panel: a time series, or with `single` the newest value."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    text: str = ""
    single: bool = False
    width: int = 12


def of_both(name: str, more: str = "") -> str:
    """A gauge of monitoring, of either source.

    Args:
        more: further label matchers.
    """
    return f"{{{BOTH.format(name)}{f',{more}' if more else ''}}}"


SOURCE_LABEL = "label_replace({}, 'source', '$1', '__name__', 'lifecycle_(monitoring|live)_.*')"


def named(expression: str) -> str:
    """The same series with a label `source`: `monitoring` or `live`."""
    return SOURCE_LABEL.format(expression)


def ratio() -> str:
    """Distance of each column from the reference, in limits: above 1 there is an alarm."""
    parts = [
        f'label_replace(lifecycle_{source}_distance{{project="$project"}} '
        f'/ lifecycle_{source}_distance_limit{{project="$project"}}, '
        f"'source', '{source}', '', '')"
        for source in ("monitoring", "live")
    ]
    return f"topk(10, {' or '.join(parts)})"


ROWS: dict[str, tuple[Graph, ...]] = {
    "Verdict": (
        Graph(
            "Retraining is asked for",
            [Query(named(of_both("retraining_asked")), "{{source}} v{{version}}")],
            single=True,
            width=6,
        ),
        Graph(
            "Alarms in the newest window",
            [Query(named(of_both("alarms")), "{{source}} {{severity}}")],
            single=True,
            width=6,
        ),
        Graph(
            "Since the newest window was monitored",
            [Query(f"time() - {named(of_both('timestamp_seconds'))}", "{{source}}")],
            unit="s",
            single=True,
            width=6,
        ),
        Graph(
            "Useless tries of the machine, and where it stops",
            [
                Query('lifecycle_retraining_useless_tries{project="$project"}', "tries"),
                Query('lifecycle_retraining_give_up_after{project="$project"}', "stops at"),
            ],
            single=True,
            width=6,
        ),
    ),
    "Quality": (
        Graph(
            "Measured, with its 95 % interval, and the value that is an alarm",
            [
                Query(named(of_both("quality")), "{{source}} {{metric}} {{bound}}"),
                Query(named(of_both("quality_limit")), "{{source}} {{metric}} limit"),
            ],
            text="Of the newest window whose labels have come.",
        ),
        Graph(
            "Estimated before the labels, with its 95 % interval",
            [
                Query(named(of_both("estimate")), "{{source}} {{metric}} {{bound}}"),
                Query(named(of_both("estimate_withdrawn")), "{{source}} withdrawn"),
            ],
        ),
        Graph("Labels", [Query(named(of_both("labels")), "{{source}}")]),
        Graph("Rows of the newest window", [Query(named(of_both("rows")), "{{source}}")]),
    ),
    "Drift": (
        Graph(
            "Distance from the reference, in limits: an alarm from 1 on",
            [Query(ratio(), "{{source}} {{column}} {{slice}}")],
            text="The ten furthest columns. A limit is large enough to matter and beyond chance.",
            width=24,
        ),
    ),
    "Endpoint": (
        Graph(
            "Requests per second",
            [
                Query(
                    "sum by (status) (rate(lifecycle_requests_total[$__rate_interval]))",
                    "{{status}}",
                )
            ],
            unit="reqps",
        ),
        Graph(
            "Latency in the replica",
            [
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    "(rate(lifecycle_request_seconds_bucket[$__rate_interval])))",
                    f"{share}",
                )
                for share in ("0.5", "0.99")
            ],
            unit="s",
        ),
        Graph(
            "Requests that the champion answered for a candidate that failed",
            [Query("sum(rate(lifecycle_candidate_errors_total[$__rate_interval]))", "fallbacks")],
            unit="reqps",
        ),
        Graph(
            "Answers that are not in the prediction log",
            [
                Query("sum(lifecycle_prediction_log_dropped_rows_total)", "dropped"),
                Query("sum(lifecycle_prediction_log_lost_rows)", "lost"),
            ],
        ),
    ),
    "Retraining": (
        Graph(
            "Tries of the machine by outcome",
            [Query('lifecycle_retraining_tries{project="$project"}', "{{outcome}}")],
        ),
        Graph(
            "Since the last try began",
            [
                Query(
                    'time() - lifecycle_retraining_last_try_timestamp_seconds{project="$project"}',
                    "last try",
                )
            ],
            unit="s",
        ),
    ),
}


def panel(graph: Graph) -> stat.Panel | timeseries.Panel:
    """The panel of a graph."""
    made = stat.Panel() if graph.single else timeseries.Panel()
    made = made.title(graph.title).datasource(SOURCE).unit(graph.unit).span(graph.width)
    made = made.height(5 if graph.single else 8)
    if graph.text:
        made = made.description(graph.text)
    for number, query in enumerate(graph.queries):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend)
        made = made.with_target(target.ref_id("ABCDEF"[number]))
    return made


def dashboard() -> models.Dashboard:
    """The whole dashboard."""
    board = (
        grafana.Dashboard("Lifecycle of a model")
        .uid("lifecycle")
        .description("Monitoring, retraining and endpoint of one project.")
        .tags(["lifecycle"])
        .refresh("1m")
        .time("now-7d", "now")
        .timezone("utc")
        .with_variable(grafana.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            grafana.QueryVariable("project")
            .query(f"label_values({PROJECTS}, project)")
            .datasource(SOURCE)
            .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
        )
    )
    for title, graphs in ROWS.items():
        board = board.with_row(grafana.Row(title))
        for graph in graphs:
            board = board.with_panel(panel(graph))
    return board.build()


def rendered() -> str:
    """The dashboard as Grafana imports it."""
    return json.dumps(dashboard(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(rendered())
