"""One self-contained HTML page of a finished run: no script, no request, no patient's id."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lymphoml.files import write_text
from lymphoml.report import figures
from lymphoml.report.content import clinical_baseline, page_content
from lymphoml.report.runs import Run, read_run


def write_report(run: Path, out: Path) -> Path:
    """Write the page of the run in folder `run` to `out`, and return `out`.

    Raises InputError where the run is unfinished.
    """
    finished = read_run(run)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": _score, "interval": _interval}
    page = environment.get_template("page.html.j2").render(
        page_content(finished), figures=_figures(finished)
    )
    write_text(out, page)
    return out


def _figures(run: Run) -> dict[str, Markup]:
    scores = {"this run": run.metrics["balanced_accuracy"]}
    if baseline := clinical_baseline(run):
        scores["clinical baseline"] = baseline["balanced_accuracy"]
    repeats = [rows for _, rows in run.predictions.groupby(run.repeat)]
    accuracy, loss = {"val/balanced_accuracy": "-"}, {"val/loss": "-", "train/loss": ":"}
    drawn = {
        "scores": (figures.scores_figure(scores), "Balanced accuracy with its 95 % interval"),
        "accuracy": (
            figures.learning_figure(run.histories, accuracy, best=True),
            "Validation balanced accuracy by epoch, a panel for each fold",
        ),
        "loss": (
            figures.learning_figure(run.histories, loss),
            "Training and validation loss by epoch, a panel for each fold",
        ),
        "roc": (figures.roc_figure(repeats), "ROC curve of the out-of-fold predictions"),
        "histogram": (
            figures.histogram_figure(run.predictions),
            "Histogram of the predicted probability for tumoral and for reactive patients",
        ),
    }
    return {
        name: Markup(figures.inline_svg(figure, name, description))
        for name, (figure, description) in drawn.items()
    }


def _score(value: float | None) -> str:
    return "n/a" if value is None or pd.isna(value) else f"{value:.3f}"


def _interval(score: dict[str, float | None]) -> str:
    return f"{_score(score['low'])} to {_score(score['high'])}"
