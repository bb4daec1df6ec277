"""`python -m lymphoml submit`: the Kaggle file, sent."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option, two_values
from lymphoml.core.errors import InputError


@dataclass
class Submit:
    """Send a run's submission.csv to Kaggle, and believe only a confirmed success."""

    run: str = option(REQUIRED, "run folder, predicted before")
    header: list[str] = option(["ID", "LABEL"], "that the competition wants")
    message: str = option(REQUIRED, "what Kaggle shows beside the submission")
    competition: str = option("dlmi-lymphocytosis-classification", "its name in Kaggle's address")


def run(options: Submit) -> None:
    from lymphoml.runs import test_set_log
    from lymphoml.runs.finished_run import siblings
    from lymphoml.runs.run_folder import read_predictions_csv
    from lymphoml.runs.submission import check_submission
    from lymphoml.runs.submission import submit as send

    run = Path(options.run)
    folder = run / "test"
    if not (folder / "predictions.csv").exists():
        raise InputError(f"run={options.run}: {folder} holds no prediction; run predict.py first")
    patients = read_predictions_csv(folder / "predictions.csv", ["patient"])["patient"].tolist()
    own = set(patients) & set(read_predictions_csv(run / "folds.csv", ["patient"])["patient"])
    if own:
        raise InputError(
            f"run={options.run}: {folder} holds {len(own)} patients that the run learned from; "
            f"run predict.py again, without patients=all, or give other persons other ids"
        )
    check_submission(folder / "submission.csv", patients, two_values("header", options.header))
    uses = test_set_log.count_uses(siblings(run))
    print(
        f"submissions before this one, of all runs in {run.parent}: "
        f"{uses.attempts if uses else 0} sent, {uses.confirmed if uses else 0} confirmed"
    )
    digest = sha256((folder / "submission.csv").read_bytes()).hexdigest()

    def record(kind: str, **more: str) -> None:
        competition = options.competition
        test_set_log.record(run, kind, digest, len(patients), competition=competition, **more)

    record("attempt")  # before: what a kill cuts short may have arrived
    confirmation = send(folder / "submission.csv", options.competition, options.message)
    print(confirmation)
    record("confirmed", confirmation=confirmation)
