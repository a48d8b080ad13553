"""`Project`: what a user declares, as one YAML file read into frozen, typed values.

Unknown keys are errors; every message names the file, the line and the key (see `load_project`).
The JSON schema for editors is `docs/project.schema.json`, written by `lifecycle schema`.
"""

import difflib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from lifecycle.errors import ProjectError
from lifecycle.specs import (
    GREATER_IS_BETTER,
    METRICS,
    ChecksSpec,
    ColumnSpec,
    ContractSpec,
    EvaluationSpec,
    FeatureViewSpec,
    GateSpec,
    Metric,
    MonitoringSpec,
    RetrainingSpec,
    Scalar,
    ScoringSpec,
    Section,
    ServingSpec,
    SourceSpec,
    SplitSpec,
    TaskKind,
    TimeSpec,
    TrainingSpec,
    TuningSpec,
)
from lifecycle.specs.formats import elsewhere

KeyPath = tuple[int | str, ...]
HookName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


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

    @property
    def file(self) -> Path:
        """The project file."""
        return self._file

    @property
    def folder(self) -> Path:
        """Folder of the project file: relative paths and the features module start there."""
        return self._file.parent

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
        """The metric that decides in tuning, gate and monitoring."""
        return self.gate.metric or METRICS[self.task][0]

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
        """What a row has once the views are joined to it: the contract's columns, then theirs."""
        return self.contract.columns | self.view_columns

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Columns the model may see, in the contract's order, then the features of the views."""
        return (*self.source_inputs, *self.view_columns)

    @property
    def asked_columns(self) -> dict[str, ColumnSpec]:
        """Fields of a request: the inputs, or with views the entity and the inputs they leave."""
        asked = (self.entity, *self.source_inputs) if self.feature_views else self.input_columns
        return {name: self.contract.columns[name] for name in asked if name is not None}

    @property
    def source_inputs(self) -> tuple[str, ...]:
        """The inputs that are contract columns."""
        if self.inputs is not None:
            return self.inputs
        taken = {self.target, *self.leakage, *self.protected, *self.ignore}
        taken |= {self.entity} if self.entity else set()
        taken |= {self.time.column} if self.time else set()
        return tuple(name for name in self.contract.columns if name not in taken)

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        for key, name in self._named_columns():
            if name not in self.contract.columns:
                known = ", ".join(self.contract.columns)
                raise ValueError(
                    f"{key} names {name!r}, which contract.columns does not have: {known}"
                )
        return self

    @model_validator(mode="after")
    def _roles_agree(self) -> Self:
        for name in self.inputs or ():
            if name == self.target or name in self.leakage:
                role = "the target" if name == self.target else "declared as leakage"
                raise ValueError(f"inputs: {name!r} is {role} and cannot be a feature")
        if not self.input_columns:
            raise ValueError("no column is left as input: every contract column has another role")
        if self.metric not in self.metric_names:
            raise ValueError(
                f"gate.metric: {self.metric!r} is not a metric of task {self.task!r}: "
                f"choose one of {', '.join(self.metric_names)}, or declare it under `metrics`"
            )
        for name in self.metrics:
            if name in GREATER_IS_BETTER:
                raise ValueError(f"metrics: {name!r} is a built-in metric's name: take another")
        if self.split.holdout + self.split.validation >= 1:
            raise ValueError("split: holdout and validation together leave nothing to train on")
        if self.split.holdout_periods is not None and self.time is None:
            raise ValueError("split.holdout_periods needs `time`: name the column that orders rows")
        return self

    @model_validator(mode="after")
    def _training_fits_task(self) -> Self:
        training, task = self.training, self.task
        if task == "multiclass" and len(self.classes) < 3:
            raise ValueError(
                f"task: multiclass needs contract.columns.{self.target} to be of type category "
                f"with its categories, three or more: they are the classes"
            )
        if training.class_weight and task not in ("binary", "multiclass"):
            raise ValueError(f"training.class_weight: task {task!r} has no classes: leave it out")
        if isinstance(training.class_weight, dict):
            known = self.classes or self.contract.columns[self.target].categories
            unknown = set(training.class_weight) - set(map(str, known or training.class_weight))
            if unknown:
                raise ValueError(f"training.class_weight: {min(unknown)!r} is no class")
        if training.calibration != "none" and task != "binary":
            raise ValueError("training.calibration: only task binary is calibrated: leave it out")
        if training.trainer != "xgboost" and training.num_workers > 1:
            raise ValueError(
                f"training.num_workers: trainer {training.trainer!r} runs in one process; "
                "several workers are for xgboost"
            )
        if training.trainer != "xgboost" and training.monotone:
            raise ValueError("training.monotone: only trainer xgboost takes constraints")
        return self

    @model_validator(mode="after")
    def _time_and_entity_fit(self) -> Self:
        columns = self.contract.columns
        for key, name in (("entity", self.entity), ("time.column", self.time and self.time.column)):
            if name and columns[name].nullable:
                raise ValueError(f"{key}: {name!r} is nullable in the contract: it must not be")
        if self.entity and columns[self.entity].pii == "drop":
            raise ValueError(
                f"contract.columns.{self.entity}.pii: the entity cannot be dropped: rows are told "
                "apart by it; hash it"
            )
        if self.time is None:
            if self.contract.freshness:
                raise ValueError("contract.freshness needs `time`: name the column that is fresh")
            return self
        kind = columns[self.time.column].type
        if kind not in ("integer", "datetime"):
            raise ValueError(
                f"time.column: {self.time.column!r} has contract type {kind}: "
                "make it integer or datetime"
            )
        if self.time.period != "value" and kind != "datetime":
            raise ValueError(
                f"time.period: {self.time.period} needs a datetime column, and "
                f"{self.time.column!r} is {kind}: use value"
            )
        if kind == "integer" and isinstance(self.time.arrives_from, date | str):
            raise ValueError(
                f"time.arrives_from: {self.time.arrives_from} is no whole number, as the values "
                f"of {self.time.column!r} are"
            )
        freshness = self.contract.freshness
        if freshness and (freshness.at_least is None) == (kind == "integer"):
            right = "at_least" if kind == "integer" else "max_age_days"
            raise ValueError(f"contract.freshness: a column of type {kind} takes {right}")
        return self

    @model_validator(mode="after")
    def _views_join(self) -> Self:
        if not self.feature_views:
            return self
        if self.entity is None or self.time is None:
            raise ValueError("feature_views: name `entity` and `time`: facts are joined by them")
        columns = self.contract.columns
        if columns[self.entity].value_type not in ("integer", "string"):
            raise ValueError(
                f"feature_views: facts are found by whole numbers or text, and {self.entity!r}, "
                f"the entity, is {columns[self.entity].value_type}"
            )
        known = {name.lower() for name in columns}
        for name, view in self.feature_views.items():
            for key, other in (("key", self.entity), ("time", self.time.column)):
                kind = view.columns[getattr(view, key)].value_type
                wanted = columns[other].value_type
                if kind != wanted:
                    raise ValueError(
                        f"feature_views.{name}.{key}: {getattr(view, key)!r} is {kind}, and "
                        f"{other!r}, which it is joined to, is {wanted}"
                    )
        if self.entity in (self.inputs or ()):
            raise ValueError(f"inputs: {self.entity!r} is the entity, which finds the facts")
        for name in self.view_columns:
            if name.lower() in known:
                raise ValueError(f"contract.columns.{name}: a feature view makes this column")
        return self

    @model_validator(mode="after")
    def _watermark_grows(self) -> Self:
        incremental = self.source.incremental
        if incremental is None or incremental.column is None:
            return self
        spec = self.contract.columns[incremental.column]
        key = "source.incremental.column"
        if spec.type not in ("integer", "datetime"):
            raise ValueError(
                f"{key}: {incremental.column!r} has contract type {spec.type}: a watermark is "
                "integer or datetime"
            )
        if spec.nullable:
            raise ValueError(f"{key}: {incremental.column!r} is nullable: it must not be")
        return self

    def _named_columns(self) -> Iterator[tuple[str, str]]:
        yield "target", self.target
        if self.entity:
            yield "entity", self.entity
        if self.time:
            yield "time.column", self.time.column
        for key in ("inputs", "leakage", "protected", "ignore"):
            yield from ((key, name) for name in getattr(self, key) or ())
        yield from (("evaluation.slices", name) for name in self.evaluation.slices)
        if self.source.incremental and self.source.incremental.column:
            yield "source.incremental.column", self.source.incremental.column


def load_project(path: str | Path) -> Project:
    """Read a project file.

    Raises:
        ProjectError: the file is missing or no YAML, or a key is unknown, missing or wrong; the
            message has one line a problem, each with file, line and key.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ProjectError(
            f"{file}: cannot read the project file ({error.strerror}); "
            "name one with --project, or write one with `lifecycle init data.csv --target COLUMN`"
        ) from None
    except UnicodeDecodeError as error:
        raise ProjectError(f"{file}: the project file is not UTF-8 text ({error.reason})") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        declared = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProjectError(f"{file}:{line}: not valid YAML: {error.problem}") from None
    if root is None or not isinstance(declared, dict):
        raise ProjectError(f"{file}:1: a project file is a mapping of keys, starting with `name:`")
    lines = _lines(root, file)
    try:
        project = Project.model_validate(declared)
    except ValidationError as error:
        problems = (_problem(file, lines, detail) for detail in error.errors())
        raise ProjectError("\n".join(problems)) from None
    project._file = file.resolve()
    return project


def _lines(node: yaml.Node, file: Path, at: KeyPath = ()) -> dict[KeyPath, int]:
    """Line (from 1) of every key path; a key given twice is an error, where YAML keeps the last."""
    lines = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*at, str(key.value))
            if path in lines:
                where = f"{file}:{key.start_mark.line + 1}"
                raise ProjectError(
                    f"{where}: {_dotted(path)}: given twice, first in line {lines[path]}"
                )
            lines |= _lines(value, file, path) | {path: key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines |= _lines(value, file, (*at, index))
    return lines


def _problem(file: Path, lines: dict[KeyPath, int], detail: ErrorDetails) -> str:
    """One problem as `file:line: key: what is wrong (got …)`."""
    key = tuple(part for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    known = key
    while known not in lines:  # pydantic adds union tags that the file does not have
        known = known[:-1]
    line = lines[known]
    if detail["type"] == "value_error":  # a section's validator starts with the key it is about
        named = _named(message)
        while named and known + named not in lines:
            named = named[:-1]
        line = lines[known + named]
        if named and key and message.startswith(f"{_dotted(named)}"):
            message = f"{_dotted(known)}.{message}"
        if not key:
            key = named
    where = f"{file}:{line}: "
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(key[-1]), _keys_beside(key), n=1)
        return f"{where}{_dotted(key)}: unknown key" + (
            f"; did you mean {close[0]!r}?" if close else ""
        )
    if detail["type"] == "missing":
        return f"{where}{_dotted(key)}: this key is missing"
    if not key or message.startswith(_dotted(key)):
        return where + message
    got = (
        ""
        if "got " in message or isinstance(detail["input"], dict)
        else f" (got {detail['input']!r})"
    )
    return f"{where}{_dotted(known)}: {message}{got}"


def _named(message: str) -> KeyPath:
    """The key path a message starts with, if it does."""
    parts = message.split(" ")[0].rstrip(":").split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _keys_beside(key: KeyPath) -> list[str]:
    """Known keys of the section that `key` stands in."""
    section: Any = Project
    for part in key[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:  # inside a mapping such as contract.columns: its values' sections
            values = [kind for kind in get_args(section) if hasattr(kind, "model_fields")]
            section = values[-1] if values else section
            continue
        section = field.annotation
        options = [kind for kind in get_args(section) if hasattr(kind, "model_fields")]
        section = options[0] if options and not str(section).startswith("dict") else section
    return list(getattr(section, "model_fields", {}))


def _dotted(key: KeyPath) -> str:
    return ".".join(str(part) for part in key)


def _from_file(value: object) -> object:
    return load_project(value) if isinstance(value, str | Path) else value


ProjectFile = Annotated[
    Project,
    BeforeValidator(_from_file),
    WithJsonSchema({"type": "string", "description": "Path of a project file"}),
]
"""A flow's parameter: a path where people and schedules call it, a `Project` where flows do."""
