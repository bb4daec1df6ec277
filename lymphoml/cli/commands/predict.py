"""`python predict.py`: new patients, by a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import REQUIRED, option, parse_run_list, two_values


@dataclass
class Predict:
    """Predict patients with a finished run: the mean over its folds, and a Kaggle submission."""

    run: str = option(REQUIRED, "run folder")
    data: dict[str, Any] = option({}, "changes to the run's data settings: data.root=DIR")
    trainer: dict[str, Any] = option({}, "the same for trainer: trainer.accelerator=cpu")
    out: str | None = option(None, "folder for the two files; RUN/test by default")
    patients: str = option("unlabelled", "unlabelled or all")
    members: str = option("", "[A,B,...], an ensemble's, where not beside it")
    header: list[str] = option(["ID", "LABEL"], "of submission.csv; Id,Predicted in 2021")


def run(options: Predict) -> None:
    from lymphoml.cli.config import run_config
    from lymphoml.runs.ensemble import resolve_members
    from lymphoml.runs.predict import predict as run_folds
    from lymphoml.runs.provenance import summarize
    from lymphoml.runs.run_folder import read_environment

    run = Path(options.run)
    out = Path(options.out) if options.out else run / "test"
    header = two_values("header", options.header)
    given = parse_run_list(options.members, "members") if options.members else []
    members = {
        member: run_config(member, _applicable_changes(options.data, member, run), options.trainer)
        for member in resolve_members(run, given)
    }
    changes = summarize(read_environment(run))
    table = run_folds(run, members, out, options.patients, header)
    tumoral = int(table["label"].sum())
    print(f"{len(table)} patients, {tumoral} called tumoral: {out / 'predictions.csv'}")
    if "triage" in table:
        ruled_out = int((table["triage"] == "rule_out").sum())
        print(
            f"triage: {ruled_out} patients ruled out by {run / 'triage.json'}, applied per fold "
            f"model, not to the mean probability shown"
        )
    else:
        print(f"no triage column: python -m lymphoml triage run={run} sets the rule for it")
    for change in changes:
        print(f"the run was resumed in a changed environment, {change}")
    print(f"Kaggle file: {out / 'submission.csv'}")


def _applicable_changes(data: dict[str, Any], member: Path, run: Path) -> dict[str, Any]:
    """Return the changes that apply to a member: a file of features to those that use one."""
    from lymphoml.runs.run_folder import read_config

    if member == run or "features" not in data:
        return data
    stored = (read_config(member) or {}).get("data") or {}
    if (stored.get("features") or {}).get("path"):
        return data
    return {key: value for key, value in data.items() if key != "features"}
