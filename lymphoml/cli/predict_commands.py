"""Commands that predict by finished runs or exported models: predict, validate."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphoml.cli.options import REQUIRED, option, parse_run_list, two_values
from lymphoml.core.errors import InputError

if TYPE_CHECKING:
    from lymphoml.runs.settings import TrainConfig

OF_TABLES = ("patients", "header", "folds", "strict", "allow_unknown_encoder")
OF_RUN = ("trainer", "members")


@dataclass
class Predict:
    """Predict patients with a finished run: the mean over its folds, and a Kaggle submission."""

    run: str = option("", "run folder")
    model: str = option("", "instead of run: folder of export, which needs no torch, and out=DIR")
    data: dict[str, Any] = option({}, "changes to the run's data settings: data.root=DIR")
    trainer: dict[str, Any] = option({}, "the same for trainer: trainer.accelerator=cpu")
    out: str | None = option(None, "folder; RUN/test, or for another cohort RUN/test-...")
    patients: str = option("unlabelled", "unlabelled or all")
    members: str = option("", "[A,B,...], an ensemble's, where not beside it")
    header: list[str] = option(["ID", "LABEL"], "of submission.csv; Id,Predicted in 2021")
    folds: list[int] = option([], "[0,2]: by these folds' models alone, into RUN/test-folds-0-2")
    strict: bool = option(False, "refuse patients unlike those that the run was trained on")
    allow_unknown_encoder: bool = option(False, "features of a file that names no encoder")
    images: str | None = option(
        None, "one patient: folder of images, with age=67 and so on; out=FILE.json"
    )
    values: dict[str, str] = option({}, "that patient's clinical values; age=67 is short for it")

    def execute(self) -> None:
        if bool(self.run) == bool(self.model):
            raise InputError("give run=RUN, or model=DIR of `python -m lymphoml export`")
        if self.images is not None or self.values:
            self._one_patient()
            return
        table = self._by_model() if self.model else self._by_run()
        if (several := table["standard_deviation"].notna()).any():
            one_call = (table["lowest"] > 0.5) == (table["highest"] > 0.5)
            agreed = int(one_call[several].sum())
            print(f"all models of a patient call alike for {agreed} of {several.sum()} patients")
        if outside := int((table["outside_range"] != "").sum()):
            print(f"{outside} patients lie outside the training range, and are never ruled out")
        if "triage" in table:
            ruled_out = (table["triage"] == "rule_out").sum()
            rule = Path(self.run) / "triage.json" if self.run else self.model
            how = "applied per fold model, not to the mean probability shown"
            print(f"triage: {ruled_out} patients ruled out by {rule}, {how}")
        elif self.folds:
            print("no triage column: a rule is made of all folds")
        elif self.run:
            command = f"python -m lymphoml triage run={self.run}"
            print(f"no triage column: {command} sets the rule for it")

    def _one_patient(self) -> None:
        self._reject_given("images=", *OF_TABLES, *(OF_RUN if self.model else ()))
        if given := sorted({"root", "table", "image_dir"} & {*self.data}):
            raise InputError(f"data.{given[0]}: has no effect with images=; leave it out")
        if self.out and Path(self.out).is_dir():
            raise InputError(f"out={self.out}: is a folder; give a file, such as result.json")
        images = None if self.images is None else Path(self.images)
        data = {"root": "."} | self.data  # no cohort is read
        if self.model:
            from lymphoml.deploy.one_patient import answer_by_model
            from lymphoml.deploy.predict import open_model

            model, settings = open_model(Path(self.model), data)
            found = answer_by_model(model, settings, images, self.values)
        else:
            from lymphoml.deploy.one_patient import answer_by_run

            members = _member_configs(Path(self.run), self.members, data, self.trainer)
            found = answer_by_run(Path(self.run), members, images, self.values)
        if self.out:
            from lymphoml.core.files import write_json

            write_json(Path(self.out), found.to_dict(), private=True)
        for line in found.lines():
            print(line)

    def _reject_given(self, beside: str, *keys: str) -> None:
        """Raise InputError for options that would have no effect."""
        if given := [key for key in keys if getattr(self, key) != getattr(type(self)(), key)]:
            raise InputError(f"{', '.join(given)}: has no effect with {beside}; leave it out")

    def _by_model(self) -> Any:
        from lymphoml.deploy.predict import predict

        self._reject_given("model=", *OF_RUN, "folds")
        if not self.out:
            raise InputError("out=...: give a folder for the predictions of model=")
        header = two_values("header", self.header)
        return predict(
            Path(self.model), self.data, Path(self.out), self.patients, header, self.strict,
            self.allow_unknown_encoder,
        )  # fmt: skip

    def _by_run(self) -> Any:
        from lymphoml.runs.predict import predict
        from lymphoml.runs.provenance import summarize
        from lymphoml.runs.run_folder import read_environment

        run = Path(self.run)
        out = Path(self.out) if self.out else None
        header = two_values("header", self.header)
        members = _member_configs(run, self.members, self.data, self.trainer)
        changes = summarize(read_environment(run))
        table = predict(
            run, members, out, self.patients, header, self.strict, self.allow_unknown_encoder,
            self.folds,
        )  # fmt: skip
        for change in changes:
            print(f"the run was resumed in a changed environment, {change}")
        return table


@dataclass
class Validate:
    """Score a run on a labelled cohort that nobody trained on; recalibration as numbers only."""

    run: str = option(REQUIRED, "finished run folder; gets validation.json")
    data: dict[str, Any] = option({}, "of that cohort, as in predict: data.root=DIR")
    trainer: dict[str, Any] = option({}, "the same for trainer: trainer.accelerator=cpu")
    members: str = option("", "[A,B,...], an ensemble's, where not beside it")
    allow_unknown_encoder: bool = option(False, "features of a file that names no encoder")

    def execute(self) -> None:
        from lymphoml.reports.validation import read_validation, write_validation
        from lymphoml.runs.finished_run import read_run

        run = read_run(Path(self.run))
        earlier = read_validation(run)  # a damaged file is named before anything is predicted
        members = _member_configs(run.path, self.members, self.data, self.trainer)
        from lymphoml.runs.validation import validate

        write_validation(run, earlier, validate(run.path, members, self.allow_unknown_encoder))


def _member_configs(
    run: Path, given: str, data: dict[str, Any], trainer: dict[str, Any]
) -> "dict[Path, TrainConfig]":
    """Return the runs whose models predict, with the changes that apply to the data of each.

    A file of features is for those members of an ensemble that use one.
    """
    from lymphoml.cli.config import run_config
    from lymphoml.runs.ensemble import resolve_members
    from lymphoml.runs.run_folder import read_config

    def applicable(member: Path) -> dict[str, Any]:
        stored = (read_config(member) or {}).get("data") or {}
        of_file = member == run or (stored.get("features") or {}).get("path")
        return {key: each for key, each in data.items() if of_file or key != "features"}

    members = resolve_members(run, parse_run_list(given, "members") if given else [])
    return {member: run_config(member, applicable(member), trainer) for member in members}
