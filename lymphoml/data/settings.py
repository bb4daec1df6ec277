"""The configuration's section `data`: a cohort, its folds, bags and images."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lymphoml.core.section import AtLeastOne, Cell, Heading, Section, Share, Text, must
from lymphoml.core.untrusted import is_safe_text
from lymphoml.data.column_kinds import ColumnConfig

RESERVED = ("id", "label", "group", "place", "patient", "hard", "right", "acquisition_half")
DAY = "%Y-%m-%d"
OF_TRAINING = (  # keys that other commands on a cohort do not read
    "splitter", "repeats", "fold_seed", "folds_csv", "train_size", "inner_val_fraction",
    "batch_size", "shuffle", "train_bag_size", "eval_bag_size", "shuffle_bag_labels",
    "standardize_clinical", "augment", "eval_tta", "features", "image_baselines", "device_cache",
    "num_workers", "timeout",
)  # fmt: skip
MOST_FOLDS = 10_000
GROUPED = "stratified_group_kfold"
# What a layout does not read, and what it is where nobody sets it: conf/data/base.yaml.
UNREAD: dict[str, dict[str, Any]] = {
    "kaggle": {"table": "clinical.csv", "image_dir": "."},
    "mil_table": {
        "image_dir": ".", "image_pattern": "*", "id_column": "ID", "label_column": "LABEL",
        "label_values": {"1": 1, "0": 0}, "columns": {},
    },
}  # fmt: skip


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.strptime(text, DAY))
    except ValueError:
        return False


def _is_unambiguous(separator: str, form: str) -> bool:
    """Return whether a date survives being written and read; with a two-digit year, 1931 fails."""
    day = datetime(1931, 12, 28)
    try:
        text = day.strftime(form)
        return separator != "" and separator in text and datetime.strptime(text, form) == day
    except ValueError:
        return False


def _is_cohort_name(text: str) -> bool:
    return bool(re.fullmatch(r"(?!\.)[\w .-]+", text)) and is_safe_text(text)


CohortName = Annotated[Text, must("letters, digits, space, _ . and - only", _is_cohort_name)]
Pattern = Annotated[Text, must("a file name, without folder", lambda text: "/" not in text)]
Day = Annotated[str, must("a date, YYYY-MM-DD", _is_day)]


class HardStratum(Section):
    """Patients scored separately: those whose `column` is at most `max`."""

    column: str
    max: float


class ChannelStatistics(Section):
    """Of red, green and blue in [0, 1]: subtracted from an image, and what it is divided by."""

    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


# As torchvision's weights, and most of timm's and transformers', expect images.
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
Normalization = bool | ChannelStatistics  # False: none; True: ImageNet's


class AugmentConfig(Section):
    flip: bool
    rotate: bool | Literal["any"]
    scale: Share
    color_jitter: Share
    stain_jitter: Share


BlockName = Literal["morphology", "random_resnet18", "random_resnet18_layer3", "pretrained"]


class FeaturesConfig(Section):
    """The feature vectors that bags hold in place of images, if any."""

    blocks: list[BlockName]
    num_networks: Annotated[int, Field(ge=1, le=64)]
    seed: Annotated[int, Field(ge=0, le=2**32)]
    balance_blocks: bool
    path: Text | None = None  # a run folder lacks a path that leads out of the project

    @property
    def used(self) -> bool:
        return bool(self.blocks or self.path)

    @model_validator(mode="after")
    def check_blocks(self) -> Self:
        problems = []
        if len(set(self.blocks)) < len(self.blocks):
            problems.append(f"data.features.blocks={self.blocks}: each must be there once")
        if self.path and self.blocks:
            problems.append(
                f"data.features.path={self.path}: has no effect with data.features.blocks="
                f"{self.blocks}; add data.features.blocks=[] to use the file alone"
            )
        random = any(name.startswith("random") for name in self.blocks)
        for key, default in (("num_networks", 1), ("seed", 0)):
            if (value := getattr(self, key)) != default and not random:
                problems.append(f"data.features.{key}={value}: needs a random network")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class DataConfig(Section):
    location: ClassVar[str] = "data"

    name: CohortName
    layout: Literal["kaggle", "table", "mil_table"]
    root: Text
    # The clinical table.
    table: Text
    image_dir: Text
    image_pattern: Pattern
    follow_links: bool = False  # likewise: whoever means it says so again
    id_column: Text
    label_column: Text
    label_values: dict[Cell, Annotated[int, Field(ge=-1, le=1)]]  # -1 unknown
    person_column: Heading | None
    site_column: Heading | None
    columns: dict[str, ColumnConfig]
    date_formats: dict[str, str]
    reference_date: Day
    missing: Literal["error", "impute"]
    clinical: list[str]
    hard_stratum: HardStratum | None
    standardize_clinical: bool
    # Folds.
    folds: Annotated[int, Field(ge=2, le=MOST_FOLDS)]
    site_folds: bool = False  # one for each site: absent unless data.folds=site
    splitter: Literal["stratified_group_kfold", "kfold"]
    repeats: AtLeastOne
    fold_seed: int | None  # None: the run's seed
    folds_csv: Text | None = None  # likewise
    train_size: AtLeastOne | None
    inner_val_fraction: Annotated[float, Field(ge=0, le=0.5)]
    # Bags.
    batch_size: AtLeastOne
    shuffle: bool
    train_bag_size: AtLeastOne | None
    eval_bag_size: AtLeastOne | None
    shuffle_bag_labels: bool
    # Images.
    cache: Text = ".cache"  # likewise
    device_cache: bool | Literal["auto"] = "auto"  # likewise: the machine's, not the run's
    crop: AtLeastOne | None
    resize: AtLeastOne | None
    normalize_images: Normalization | None  # None until the encoder's weights are read
    augment: AugmentConfig
    stain_norm: Literal["reinhard", "macenko"] | None
    eval_tta: Literal[1, 8]
    features: FeaturesConfig
    image_baselines: list[Literal["morphology", "random_features"]]
    num_workers: Annotated[int, Field(ge=0, le=1024)]
    timeout: AtLeastOne

    @property
    def holds_features(self) -> bool:
        """Whether bags hold feature vectors in place of images."""
        return self.features.used or self.layout == "mil_table"

    @property
    def feature_file(self) -> Path | None:
        """The file that the bags' feature vectors come from, where they do from one."""
        name = Path(self.root, self.table) if self.layout == "mil_table" else self.features.path
        return Path(name).expanduser() if name else None

    @property
    def birth_dates(self) -> list[str]:
        return [name for name, spec in self.columns.items() if spec.kind == "date_of_birth"]

    @property
    def sexes(self) -> list[str]:
        """The category that is a person's sex; several where it is undecided, which is refused."""
        columns = {n: c for n, c in self.columns.items() if c.kind == "categorical"}
        evidence = {name: column.sex_evidence(name) for name, column in columns.items()}
        return [name for name, value in evidence.items() if value == max(1, *evidence.values())]

    @property
    def person_rule(self) -> str | None:
        """How records of one person are recognised; None where they cannot be."""
        if self.person_column:
            return f"data.person_column={self.person_column}"
        return "birth date and sex" if self.birth_dates and self.sexes else None

    @model_validator(mode="before")
    @classmethod
    def read_site_folds(cls, values: Any) -> Any:
        """`folds: site` stands for as many as `sites.count_sites` finds; MOST_FOLDS until then."""
        if isinstance(values, dict) and values.get("folds") == "site":
            return values | {"folds": MOST_FOLDS, "site_folds": True}
        return values

    @model_validator(mode="before")
    @classmethod
    def leave_columns_out(cls, values: Any) -> Any:
        """`columns: {sex: null}` declares no such column, which another cohort may lack."""
        columns = values.get("columns") if isinstance(values, dict) else None
        if not isinstance(columns, dict):
            return values
        return values | {
            "columns": {key: each for key, each in columns.items() if each is not None}
        }

    @model_validator(mode="after")
    def check_columns(self) -> Self:
        if problems := [*self._problems()]:
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        for name, spec in self.columns.items():
            key = f"data.columns.{name}"
            if not (name.isascii() and name.isidentifier()):
                yield f"{key}: its name must be letters, digits and _, as lymphocyte_count"
            if name in RESERVED:
                yield f"{key}: this name is reserved; choose another"
            if spec.column in (self.id_column, self.label_column):
                yield f"{key}.column={spec.column}: the patient's id and label are no inputs"
        for key, unset in UNREAD.get(self.layout, {}).items():
            if getattr(self, key) != unset:
                yield f"data.{key}: does not go with data.layout={self.layout}; leave it out"
        if self.fold_seed is not None and self.folds_csv:
            yield f"data.fold_seed={self.fold_seed}: has no effect with data.folds_csv"
        yield from self._person_problems()
        for name in dict.fromkeys(n for n in self.clinical if self.clinical.count(n) > 1):
            yield f"data.clinical: {name} is there twice; leave one out"
        for name in self.clinical:
            if name not in self.columns:
                known = ", ".join(self.columns) or "none"
                yield f"data.clinical: data.columns has no {name}; it has {known}"
        for name in () if self.date_formats else self.birth_dates[:1]:
            yield f"data.columns.{name}: needs data.date_formats, such as {{'-': '%d-%m-%Y'}}"
        for separator, form in self.date_formats.items():
            if not _is_unambiguous(separator, form):
                yield (
                    f"data.date_formats {separator!r}: {form!r} must contain the separator, a day, "
                    "a month and a year of four digits, such as '%d-%m-%Y'"
                )
        numeric = [name for name, spec in self.columns.items() if spec.kind == "numeric"]
        if self.hard_stratum is not None and self.hard_stratum.column not in numeric:
            yield (
                f"data.hard_stratum.column={self.hard_stratum.column}: must be a numeric column of "
                f"data.columns: {', '.join(numeric) or 'none'}"
            )

    def _person_problems(self) -> Iterator[str]:
        for key, heading in (("person", self.person_column), ("site", self.site_column)):
            if heading is None:
                continue
            if self.layout == "mil_table":
                yield f"data.{key}_column={heading}: a file of bags has none; use data.folds_csv"
            if heading == self.label_column or (key == "site" and heading == self.id_column):
                yield f"data.{key}_column={heading}: is the column of ids or labels"
            for name in self.clinical:
                if name in self.columns and self.columns[name].column == heading:
                    yield f"data.clinical: {name} is data.{key}_column, which no model may get"
        if self.site_column and "site" in self.columns:
            yield "data.columns.site: is reserved by data.site_column; choose another name"
        if len(self.sexes) > 1 and self.birth_dates and not self.person_column:
            which = " or ".join(self.sexes)
            yield f"data.columns: is {which} the person's sex? Add role: sex to it alone"
