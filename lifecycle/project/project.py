"""`Project`: what a user declares, as one YAML file read into frozen, typed values.

Unknown keys are errors; `loader` reads a file and tells what is wrong in it, and where.
The JSON schema for editors is `docs/project.schema.json`, written by `lifecycle schema`.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from lifecycle.errors import ProjectError
from lifecycle.project.base import (
    GREATER_IS_BETTER,
    METRICS,
    SCORING_RULES,
    Metric,
    Scalar,
    Section,
    TaskKind,
    meant,
)
from lifecycle.project.checks import ChecksSpec
from lifecycle.project.contract import ColumnSpec, ContractSpec
from lifecycle.project.data import FeatureViewSpec, SourceSpec, SplitSpec, TimeSpec, elsewhere
from lifecycle.project.monitoring import MonitoringSpec, RetrainingSpec
from lifecycle.project.serving import ScoringSpec, ServingSpec
from lifecycle.project.training import (
    DecisionSpec,
    EvaluationSpec,
    GateSpec,
    TrainingSpec,
    TuningSpec,
)

# Rules between the sections of a project file; those of one section are in its class.


def check_rules(project: "Project") -> None:
    """Hold a project against every rule, in this order.

    Raises:
        ValueError: the first that is broken; the message begins with the key it is about.
    """
    _columns_exist(project)
    _roles_agree(project)
    _training_fits_task(project)
    _fairness_is_known(project)
    _time_and_entity_fit(project)
    _views_join(project)
    _sources_fit(project)
    _log_is_whole(project)


def _log_is_whole(project: "Project") -> None:
    for name in project.input_columns if project.monitoring.live else ():
        if (pii := project.columns[name].pii) in ("hash", "drop"):
            raise ValueError(
                f"monitoring.live: the prediction log has the input {name!r} not as the model saw "
                f"it (pii: {pii}): keep it, or leave it out of the inputs"
            )


def _columns_exist(project: "Project") -> None:
    for key, name in _named_columns(project):
        if name not in project.contract.columns:
            hint = meant(name, project.contract.columns)
            raise ValueError(f"{key} names {name!r}, which contract.columns does not have{hint}")


def _roles_agree(project: "Project") -> None:
    for name in project.inputs or ():
        if name == project.target or name in project.leakage:
            role = "the target" if name == project.target else "declared as leakage"
            raise ValueError(f"inputs: {name!r} is {role} and cannot be a feature")
    if not project.input_columns:
        raise ValueError("no column is left as input: every contract column has another role")
    for key, metric in (
        ("gate.metric", project.metric),
        ("training.metric", project.training_metric),
    ):
        if metric not in project.metric_names:
            raise ValueError(
                f"{key}: {metric!r} is not a metric of task {project.task!r}, nor declared under "
                f"`metrics`{meant(metric, project.metric_names)}"
            )
    for name in project.metrics:
        if name in GREATER_IS_BETTER:
            raise ValueError(f"metrics: {name!r} is the name of a built-in metric: choose another")
    if project.split.holdout + project.split.validation >= 1:
        raise ValueError("split: holdout and validation together leave no rows to train on")
    if project.split.holdout_periods is not None and project.time is None:
        raise ValueError("split.holdout_periods needs `time`: name the column that orders rows")


def _training_fits_task(project: "Project") -> None:
    training, task = project.training, project.task
    if task == "multiclass" and len(project.classes) < 3:
        raise ValueError(
            f"task: multiclass needs contract.columns.{project.target} to be of type category "
            f"with its categories, three or more: they are the classes"
        )
    if training.class_weight and task not in ("binary", "multiclass"):
        raise ValueError(f"training.class_weight: task {task!r} has no classes: omit it")
    if isinstance(training.class_weight, dict):
        categories = project.classes or project.contract.columns[project.target].categories
        unknown = set(training.class_weight) - set(map(str, categories or training.class_weight))
        if unknown:
            hint = meant(min(unknown), map(str, categories or ()))
            raise ValueError(f"training.class_weight: {min(unknown)!r} is not a class{hint}")
    if training.calibration != "none" and task != "binary":
        raise ValueError("training.calibration: only task binary is calibrated: omit it")
    if project.decision is not None and task != "binary":
        raise ValueError(f"decision: only task binary has a threshold, not {task!r}: omit it")
    if training.trainer != "xgboost" and training.num_workers > 1:
        raise ValueError(
            f"training.num_workers: trainer {training.trainer!r} runs in one process; "
            "several workers are for xgboost"
        )
    if training.refit and (training.own_trainer or training.num_workers > 1):
        raise ValueError(
            "training.refit: several workers keep to the train part, and a trainer of your own is "
            "handed both parts and decides itself: leave it out"
        )
    if training.trainer != "xgboost" and training.monotone:
        raise ValueError("training.monotone: only trainer xgboost takes constraints")
    if project.features is None:  # else the hook decides the names
        for name in training.monotone:
            if name not in project.input_columns:
                hint = meant(name, project.input_columns)
                raise ValueError(f"training.monotone.{name}: there is no such feature{hint}")


def _fairness_is_known(project: "Project") -> None:
    for attribute, limits in project.gate.max_fairness_gap.items():
        key = f"gate.max_fairness_gap.{attribute}"
        if attribute not in project.protected:
            close = get_close_matches(attribute, project.protected, n=1)
            hint = f"did you mean {close[0]!r}? Else " if close else ""
            raise ValueError(
                f"{key}: {hint}name {attribute!r} under `protected` to measure its gaps"
            )
        if not limits:
            raise ValueError(f"{key}: name a measure and its limit, or omit it")
        for measure in limits:
            if measure != "metric_difference" and project.task != "binary":
                raise ValueError(
                    f"{key}.{measure}: only task binary has it; task {project.task!r} has "
                    "metric_difference"
                )


def _time_and_entity_fit(project: "Project") -> None:
    columns = project.contract.columns
    for key, name in (
        ("entity", project.entity),
        ("time.column", project.time and project.time.column),
    ):
        if name and columns[name].nullable:
            raise ValueError(f"{key}: {name!r} is nullable in the contract: it must not be")
    if project.entity and columns[project.entity].pii == "drop":
        raise ValueError(
            f"contract.columns.{project.entity}.pii: the entity cannot be dropped, because it "
            "identifies rows; hash it"
        )
    if project.time is None:
        if project.contract.freshness:
            raise ValueError(
                "contract.freshness needs `time`: name the column whose age is checked"
            )
        return
    kind = columns[project.time.column].type
    if kind not in ("integer", "datetime"):
        raise ValueError(
            f"time.column: {project.time.column!r} has contract type {kind}: "
            "make it integer or datetime"
        )
    if project.time.period != "value" and kind != "datetime":
        raise ValueError(
            f"time.period: {project.time.period} needs a datetime column, and "
            f"{project.time.column!r} is {kind}: use value"
        )
    if kind == "integer" and isinstance(project.time.arrives_from, date | str):
        raise ValueError(
            f"time.arrives_from: {project.time.arrives_from} is not a whole number, but the "
            f"values of {project.time.column!r} are"
        )
    freshness = project.contract.freshness
    if freshness and (freshness.at_least is None) == (kind == "integer"):
        right = "at_least" if kind == "integer" else "max_age_days"
        raise ValueError(f"contract.freshness: a column of type {kind} takes {right}")


def _views_join(project: "Project") -> None:
    if not project.feature_views:
        return
    if project.entity is None or project.time is None:
        raise ValueError("feature_views: name `entity` and `time`: facts are joined by them")
    columns = project.contract.columns
    if columns[project.entity].value_type not in ("integer", "string"):
        raise ValueError(
            f"feature_views: facts are found by whole numbers or text, and {project.entity!r}, "
            f"the entity, is {columns[project.entity].value_type}"
        )
    names = {name.lower() for name in columns}
    for name, view in project.feature_views.items():
        for key, other in (("key", project.entity), ("time", project.time.column)):
            kind = view.columns[getattr(view, key)].value_type
            key_type = columns[other].value_type
            if kind != key_type:
                raise ValueError(
                    f"feature_views.{name}.{key}: {getattr(view, key)!r} is {kind}, and "
                    f"{other!r}, which it is joined to, is {key_type}"
                )
    if project.entity in (project.inputs or ()):
        raise ValueError(f"inputs: {project.entity!r} is the entity, by which facts are looked up")
    for name in project.view_columns:
        if name.lower() in names:
            raise ValueError(f"contract.columns.{name}: a feature view already has this column")


def _sources_fit(project: "Project") -> None:
    for key, source, columns in _sources(project):
        _watermark_grows(key, source, columns)
        _notation_fits(key, source, columns)


def _sources(project: "Project") -> Iterator[tuple[str, SourceSpec, dict[str, ColumnSpec]]]:
    """Key, source and contract of every source, those of single environments too."""
    declared = [("source", project.source, project.contract.columns)]
    for name, view in project.feature_views.items():
        declared.append((f"feature_views.{name}.source", view.source, view.columns))
    for key, source, columns in declared:
        yield key, source, columns
        for env in source.environments:
            yield f"{key}.environments.{env}", source.in_environment(env), columns


def _watermark_grows(key: str, source: SourceSpec, columns: dict[str, ColumnSpec]) -> None:
    incremental = source.incremental
    if incremental is None or incremental.column is None:
        return
    spec, key = columns[incremental.column], f"{key}.incremental.column"
    if spec.type not in ("integer", "datetime"):
        raise ValueError(
            f"{key}: {incremental.column!r} has contract type {spec.type}: a watermark is "
            "integer or datetime"
        )
    if spec.nullable:
        raise ValueError(f"{key}: {incremental.column!r} is nullable: it must not be")


def _notation_fits(key: str, source: SourceSpec, columns: dict[str, ColumnSpec]) -> None:
    columns_by_key = {
        "plain": source.plain,
        "dates": source.dates,
        "spellings": source.spellings,
    }
    for section, names in columns_by_key.items():
        for name in names:
            if name not in columns:
                hint = meant(name, columns)
                raise ValueError(
                    f"{key}.{section} names {name!r}, which its contract does not have{hint}"
                )
    for name in source.dates:
        if columns[name].type != "datetime":
            raise ValueError(
                f"{key}.dates: {name!r} has contract type {columns[name].type}: make it "
                "datetime, or remove it"
            )
    watermark = source.incremental and source.incremental.column
    if watermark in source.dates and source.format in ("sql", "delta"):
        raise ValueError(
            f"{key}.dates: {watermark!r} is the watermark, which the {source.format} source "
            "compares by itself: cast it to a time there (a query or a view)"
        )


def _named_columns(project: "Project") -> Iterator[tuple[str, str]]:
    yield "target", project.target
    if project.entity:
        yield "entity", project.entity
    if project.time:
        yield "time.column", project.time.column
    for key in ("inputs", "leakage", "protected", "ignore"):
        yield from _listed(key, getattr(project, key) or ())
    yield from _listed("evaluation.slices", project.evaluation.slices)
    for key, source, columns in _sources(project):
        if columns is project.contract.columns and source.incremental and source.incremental.column:
            yield f"{key}.incremental.column", source.incremental.column


def _listed(key: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names in a list, under their own key paths: each may stand in a line of its own."""
    yield from ((f"{key}.{at}", name) for at, name in enumerate(names))


HookName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


def plug_path(reference: str) -> str:
    """Path of the file of `module:name` in a project's folder: that of `a.b:make` is `a/b.py`."""
    return reference.partition(":")[0].replace(".", "/") + ".py"


class Project(Section):
    """One machine-learning project: what, never where."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    """Names the registered model, the tables and the endpoint: lower case, digits, underscores."""
    description: str = ""
    source: SourceSpec
    task: TaskKind
    target: str
    positive: Scalar | None = None
    """Binary: the target value that counts as positive; by default 1."""
    entity: str | None = None
    """Column that identifies the person or thing a row is about; never a feature."""
    time: TimeSpec | None = None
    inputs: tuple[str, ...] | None = None
    """Columns the model may see; by default every contract column without another role."""
    leakage: tuple[str, ...] = ()
    """Consequences of the target: refused as features."""
    protected: tuple[str, ...] = ()
    """Protected attributes: reported on, and not features unless named in `inputs`."""
    ignore: tuple[str, ...] = ()
    """Columns that are neither features nor anything else."""
    features: HookName | None = None
    """`module:function` that turns a frame of inputs into a frame of features, same rows."""
    feature_views: dict[MetricName, FeatureViewSpec] = Field(default_factory=dict)
    """Facts of other sources, joined to each row; their features are inputs `<view>__<name>`."""
    contract: ContractSpec
    split: SplitSpec = SplitSpec()
    decision: DecisionSpec | None = None
    """Binary: makes a class of each probability, which is served as `predicted`."""
    training: TrainingSpec = TrainingSpec()
    tuning: TuningSpec = TuningSpec()
    checks: ChecksSpec = ChecksSpec()
    metrics: dict[MetricName, HookName] = Field(default_factory=dict)
    """Metrics of your own: name → `module:function` of (truth, prediction), greater is better."""
    evaluation: EvaluationSpec = EvaluationSpec()
    gate: GateSpec = GateSpec()
    serving: ServingSpec = ServingSpec()
    scoring: ScoringSpec = ScoringSpec()
    monitoring: MonitoringSpec = MonitoringSpec()
    retraining: RetrainingSpec = RetrainingSpec()

    _file: Path = PrivateAttr(default=Path("project.yaml"))
    _plugs: dict[str, bytes] = PrivateAttr(default_factory=dict)

    @property
    def file(self) -> Path:
        """The project file."""
        return self._file

    @property
    def folder(self) -> Path:
        """Folder of the project file: relative paths and the features module start there."""
        return self._file.parent

    @property
    def plugs(self) -> dict[str, str]:
        """Code of the user's own, `module:name` by the key of the project that names it."""
        references = {f"metrics.{name}": reference for name, reference in self.metrics.items()}
        for name, view in self.feature_views.items():
            references[f"feature_views.{name}.function"] = view.function
        if self.features:
            references["features"] = self.features
        if self.training.own_trainer:
            references["training.trainer"] = self.training.trainer
        return references

    @property
    def carried_plugs(self) -> dict[str, bytes]:
        """Files of the user's code by their paths in `folder`, as they were where it was pickled.

        Empty unless the project came from another process, perhaps of a machine without that
        folder.
        """
        return self._plugs

    def at(self, file: Path) -> Self:
        """The same project as if it had been read from that file, with the code beside it."""
        copy = self.model_copy()
        copy._file, copy._plugs = file, {}
        return copy

    def __getstate__(self) -> dict[Any, Any]:
        """The state for a pickle, with the user's code in it."""
        state = super().__getstate__()
        paths = {plug_path(reference) for reference in self.plugs.values()}
        files = {path: self.folder / path for path in paths if path not in self._plugs}
        here = {path: file.read_bytes() for path, file in files.items() if file.is_file()}
        private = (state["__pydantic_private__"] or {}) | {"_plugs": here | self._plugs}
        return state | {"__pydantic_private__": private}

    @property
    def environments(self) -> tuple[str, ...]:
        """Environments that a source is declared for; see `loader.in_environment`."""
        labels = [self.monitoring.labels] if self.monitoring.labels else []
        sources = (self.source, *(view.source for view in self.feature_views.values()), *labels)
        return tuple(dict.fromkeys(env for source in sources for env in source.environments))

    def with_source(self, path: str | Path) -> Self:
        """The same project on another file, folder or URL; a relative path starts where the caller
        is, and an ending that names another format than the project's is believed.

        Raises:
            ProjectError: the URL holds a password.
        """
        text = str(path)
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        try:
            return self.model_copy(update={"source": elsewhere(self.source, text)})
        except ValidationError as error:
            problems = [detail["msg"].removeprefix("Value error, ") for detail in error.errors()]
            raise ProjectError(f"--source: {'; '.join(problems)}") from None

    @property
    def metric(self) -> Metric:
        """The metric that decides at the gate and in monitoring."""
        return self.gate.metric or METRICS[self.task][0]

    @property
    def training_metric(self) -> Metric:
        """The metric that stops training early and ranks the trials of a search.

        A model that is fitted to the median is judged by `mae`, whose minimum that is.
        """
        parameters = self.training.parameters
        fitted_to = {parameters.get("objective"), parameters.get("loss")}
        if self.task == "regression" and fitted_to & {"reg:absoluteerror", "absolute_error"}:
            return self.training.metric or "mae"
        return self.training.metric or SCORING_RULES[self.task]

    @property
    def metric_names(self) -> tuple[Metric, ...]:
        """Every metric an evaluation has: those of the task, then the project's own."""
        return (*METRICS[self.task], *self.metrics)

    @property
    def classes(self) -> tuple[Scalar, ...]:
        """Multiclass: the target's values, in the order of their codes; otherwise empty."""
        if self.task != "multiclass":
            return ()
        return self.contract.columns[self.target].categories or ()

    @property
    def view_columns(self) -> dict[str, ColumnSpec]:
        """Features of the views under their names as inputs, `<view>__<feature>`."""
        return {
            f"{view}__{name}": feature.model_copy(update={"nullable": True})
            for view, spec in self.feature_views.items()
            for name, feature in spec.features.items()
        }

    @property
    def columns(self) -> dict[str, ColumnSpec]:
        """Columns of a row after the views are joined: those of the contract, then of the views."""
        return self.contract.columns | self.view_columns

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Columns the model may see, in the contract's order, then the features of the views."""
        return (*self.source_inputs, *self.view_columns)

    @property
    def asked_columns(self) -> dict[str, ColumnSpec]:
        """Fields of a request: the inputs, or with views the entity and the inputs they leave."""
        columns = (self.entity, *self.source_inputs) if self.feature_views else self.input_columns
        return {name: self.contract.columns[name] for name in columns if name is not None}

    @property
    def source_inputs(self) -> tuple[str, ...]:
        """The inputs that are contract columns."""
        if self.inputs is not None:
            return self.inputs
        names = {self.target, *self.leakage, *self.protected, *self.ignore}
        names |= {self.entity} if self.entity else set()
        names |= {self.time.column} if self.time else set()
        return tuple(name for name in self.contract.columns if name not in names)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        check_rules(self)
        return self
