from types import SimpleNamespace
from typing import Any

from lymphoml.reports.results import without_several_records


def test_there_are_no_scores_of_single_records_where_each_person_has_several():
    score = {"value": 0.5}
    scores = {"all": {"balanced_accuracy": score, "auroc": score}, "hard": None}
    for single, titles in (
        (None, []),
        ({"all": None, "hard": None}, []),
        (scores, ["Balanced accuracy", "AUROC"]),
    ):
        run: Any = SimpleNamespace(metrics={"single_records": single, "averaged": None})
        assert list(without_several_records(run)) == titles
        assert not without_several_records(run, averaged=True)
