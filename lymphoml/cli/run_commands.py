"""Commands on runs: submit, list, report, triage, compare, ensemble, dashboard."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lymphoml.cli.options import REQUIRED, option, parse_run_list, two_values
from lymphoml.core.errors import InputError

MOST_TRIED = 100  # of which every pair is a test: minutes of permutations


@dataclass
class Submit:
    """Send a run's submission.csv to Kaggle, and believe only a confirmed success."""

    run: str = option(REQUIRED, "run folder, predicted before")
    header: list[str] = option(["ID", "LABEL"], "that the competition wants")
    message: str = option(REQUIRED, "what Kaggle shows beside the submission")
    folds: list[int] = option([], "as given to predict: send the submission of these folds")
    competition: str = option("dlmi-lymphocytosis-classification", "its name in Kaggle's address")

    def execute(self) -> None:
        from lymphoml.core.files import sha256
        from lymphoml.core.untrusted import reject_symlinks
        from lymphoml.runs import test_set_log
        from lymphoml.runs.finished_run import siblings
        from lymphoml.runs.prediction_folder import check_own_predictions
        from lymphoml.runs.run_folder import named_folds, read_predictions_csv
        from lymphoml.runs.submission import (
            check_submission,
            public_scores,
            submit,
            wait_for_score,
        )

        run = Path(self.run)
        reject_symlinks(run)
        folds = named_folds(run, self.folds)
        folder = check_own_predictions(run, folds)
        predictions, submission = folder / "predictions.csv", folder / "submission.csv"
        patients = read_predictions_csv(predictions, ["patient"])["patient"].tolist()
        learned = read_predictions_csv(run / "folds.csv", ["patient"])["patient"]
        if own := set(patients) & set(learned):
            raise InputError(
                f"run={run}: {folder} holds {len(own)} patients that the run learned from; run "
                f"predict.py again, without patients=all, or give other persons other ids"
            )
        check_submission(submission, patients, two_values("header", self.header))
        uses = test_set_log.count_uses(siblings(run))
        sent, confirmed = (uses.attempts, uses.confirmed) if uses else (0, 0)
        print(f"earlier submissions of runs in {run.parent}: {sent} sent, {confirmed} confirmed")
        models = f"folds {folds} alone" if folds else "all folds"
        print(f"sending {submission}, predicted by {models}")
        record = partial(test_set_log.record, run, sha256=sha256(submission), folds=folds,
                         patients=len(patients), competition=self.competition)  # fmt: skip
        before = public_scores(self.competition)
        record("attempt")  # before: what a kill cuts short may have arrived
        confirmation = submit(submission, self.competition, self.message)
        print(confirmation)
        record("confirmed", confirmation=confirmation)
        if before is None or not (score := wait_for_score(self.competition, before)):
            score = f"not shown yet; see `kaggle competitions submissions {self.competition}`"
        print(f"public score: {score}", flush=True)


@dataclass
class List:
    """List runs, finished or not: folds done, headline score, time left."""

    runs: str = option("runs", "folder of runs, or of one sweep")

    def execute(self) -> None:
        from lymphoml.reports.run_summary import print_runs

        print_runs(Path(self.runs))


@dataclass
class Report:
    """One self-contained HTML page of a finished run, or of several side by side."""

    run: str = option("", "run folder")
    runs: str = option("", "instead of run: folder of a sweep, or [A,B,...]")
    out: str | None = option(None, "file; default: report.html in the folder of the run or sweep")
    audit: str | None = option(None, "audit.json of the run's cohort, to be summarised")
    prevalence: float | None = option(None, "in the decision curve; default: the cohort's")
    reference: str | None = option(None, "of several runs, as in compare")
    tried: int | None = option(None, "of several runs, as in compare")
    data: dict[str, Any] = option({}, "data.root=DIR: the cohort, for pictures of cells")
    ids: bool = option(False, "show patients' ids instead of pseudonyms; the page is then private")
    thumbnails: bool = option(True, "show cells of each patient; false for a page to share")

    def execute(self) -> None:
        from lymphoml.reports.page import Choices
        from lymphoml.reports.page.page import write_overview, write_report

        if bool(self.run) == bool(self.runs):
            raise InputError("give run=RUN for one run, or runs=FOLDER or runs=[A,B] for several")
        of_several = [f"{key}={value}" for key in ("reference", "tried")
                      if (value := getattr(self, key)) is not None]  # fmt: skip
        if self.run and of_several:
            raise InputError(f"{', '.join(of_several)}: has no effect with run=; give runs=")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise InputError(f"prevalence={self.prevalence}: must be > 0 and < 1")
        if set(self.data) - {"root", "follow_links"}:
            raise InputError(f"data={self.data}: only data.root and data.follow_links matter here")
        audit = Path(self.audit) if self.audit else None
        choices = Choices(self.ids, self.thumbnails, audit, self.data, self.prevalence)
        paths, folder = ([], Path(self.run)) if self.run else _run_list(self.runs)
        out = Path(self.out) if self.out else (folder or paths[0].parent) / "report.html"
        if self.run:
            print(write_report(Path(self.run), out, choices))
        else:
            print(write_overview(paths, out, choices, self.reference, self.tried))


@dataclass
class Triage:
    """Set a run's rule-out threshold, and say what it aims at; predict.py then applies it."""

    run: str = option(REQUIRED, "run folder")
    sensitivity: float = option(0.95, "share of tumoral patients to be tested, above 0, below 1")
    guarantee: str = option("average", "average: over cohorts; confidence: in 95 % of cohorts")
    prevalence: float | None = option(None, "of tumoral patients where it is used, 0 to 1")

    def execute(self) -> None:
        from lymphoml.reports.triage import set_rule

        set_rule(Path(self.run), self.sensitivity, self.guarantee, self.prevalence)


@dataclass
class Compare:
    """Compare runs on the same patients and folds; of a sweep also the paper's table and figure."""

    runs: str = option(REQUIRED, "[A,B,...] run folders, or the folder of a sweep")
    reference: str | None = option(None, "run or baseline; default: first, of a sweep the paper's")
    tried: int | None = option(None, "number of configurations tried, if more than these")
    pairs: bool = option(False, "compare every two runs as well: comparison_pairs.csv")
    out: str | None = option(None, "folder for comparison.json and tables; default: sweep, or runs")
    resamples: int = option(2000, "bootstrap resamples of patients")
    seed: int = option(0, "of resamples and permutations")

    def execute(self) -> None:
        from lymphoml.core.files import write_csv
        from lymphoml.reports.comparison import compare, output, sweep
        from lymphoml.reports.format import wide_console

        if self.resamples < 100:
            raise InputError(f"resamples={self.resamples}: must be >= 100, 2000 for publication")
        if self.pairs and (self.tried or 0) > MOST_TRIED:
            raise InputError(
                f"tried={self.tried}: pairs=true takes at most {MOST_TRIED}; leave one of them out"
            )
        if self.seed < 0:
            raise InputError(f"seed={self.seed}: must be >= 0")
        paths, folder = _run_list(self.runs)
        reference, why = compare.choose_reference(self.reference, paths, folder is None)
        comparison = compare.compare_runs(paths, reference, self.resamples, self.seed, self.tried)
        out = Path(self.out or folder or "runs")
        for name in ("comparison_pairs.csv", "ablation.png"):  # which not every comparison has
            (out / name).unlink(missing_ok=True)
        written = output.write_comparison(comparison, out)
        console = wide_console()
        print(f"reference: {comparison.reference} ({why})")
        if folder is not None:
            written += sweep.write_sweep(comparison, out)
            sweep.print_sweep(comparison, console)
        output.print_comparison(comparison, console)
        for line in compare.curve_lines(comparison, self.resamples, self.seed):
            print(line)
        if self.pairs:
            pairs = compare.compare_pairs(comparison, self.resamples, self.seed)
            written.append(out / "comparison_pairs.csv")
            write_csv(written[-1], pairs)
            for line in output.pair_lines(comparison, pairs):
                console.print(line, markup=False)
        print(", ".join(map(str, written)))


@dataclass
class Ensemble:
    """Average the out-of-fold logits of finished runs, such as seeds, into a run of their own."""

    runs: str = option(REQUIRED, "[A,B,...], run folders, or one folder that holds a sweep's runs")
    out: str = option(REQUIRED, "the new run folder, runs/NAME/SLUG")

    def execute(self) -> None:
        from lymphoml.reports.ensemble import write_ensemble
        from lymphoml.reports.run_summary import print_run
        from lymphoml.runs.ensemble import member_names

        paths, folder = _run_list(self.runs, but=Path(self.out))
        if folder is not None:  # among a sweep's runs lie ensembles of some of them
            paths = [path for path in paths if not member_names(path)]
        write_ensemble(paths, Path(self.out))
        print_run(Path(self.out))


@dataclass
class Dashboard:
    """Save a view of the W&B project that compares configurations and folds, or update it."""

    project: str | None = option(None, "default: WANDB_PROJECT, else lymphoml")
    entity: str | None = option(None, "user or team; default: WANDB_ENTITY, else the API key's")
    name: str | None = option(None, "a view of the runs of this name= alone, such as ablation")

    def execute(self) -> None:
        from lymphoml.reports.dashboard import save_dashboard

        print(save_dashboard(self.project, self.entity, self.name))


def _run_list(text: str, but: Path | None = None) -> tuple[list[Path], Path | None]:
    """Return the runs of `[A,B]`; or those of a sweep's folder without `but`, and the folder."""
    from lymphoml.runs.finished_run import find_runs

    if text.startswith("["):
        return parse_run_list(text), None
    return find_runs(Path(text), but), Path(text)
