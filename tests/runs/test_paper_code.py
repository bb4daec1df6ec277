"""`experiment=paper_code` against a loop in plain PyTorch, written from what the authors' does."""

import shutil
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold
from torch import nn
from torchvision.models import resnet18

from lymphoml.core.errors import InputError
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import TABLE, configuration

FOLD, EPOCHS = 1, 2


class Record(NamedTuple):
    patients: list[str]  # by step of training, as are their losses
    losses: list[float]
    epochs: list[list[float]]  # validation loss and balanced accuracy
    probabilities: dict[str, float]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authors") / "cohort"
    synthesize(folder, patients=15, test_patients=1, images=(2, 3), size=48, seed=3)
    return folder


class Observer(pl.Callback):
    def __init__(self):
        self.patients, self.losses, self.initial = [], [], {}

    def on_fit_start(self, trainer, module):
        self.initial = {name: v.clone() for name, v in module.model.state_dict().items()}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.patients += batch.ids
        self.losses.append(outputs["loss"].item())


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """The record of `experiment=paper_code`, and the weights that it began with."""
    folder, observer = tmp_path_factory.mktemp("run"), Observer()
    fit = pl.Trainer.fit

    def observed(trainer, *args, **kwargs):
        trainer.callbacks.append(observer)
        fit(trainer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "fit", observed)
        words = ["experiment=paper_code", "model/encoder=resnet18", "data.folds=5", f"fold={FOLD}"]
        more = [f"trainer.max_epochs={EPOCHS}", "trainer.accelerator=cpu"]
        cross_validate(configuration(root, folder, *words, *more), folder / "run")
    fold = folder / "run" / f"fold-{FOLD}"
    epochs = pd.read_csv(fold / "history.csv")[["val/loss", "val/balanced_accuracy"]]
    held_out = pd.read_csv(fold / "predictions.csv").set_index("patient")["probability"]
    record = Record(observer.patients, observer.losses, epochs.to_numpy().tolist(), dict(held_out))
    return record, observer.initial


def plain_loop(root, initial):
    """Train the fold of KFold in the table's order; the loss is that of probabilities."""
    table = pd.read_csv(root / TABLE, dtype={"DOB": str})
    encoder, head = resnet18(), nn.Linear(514, 1)
    encoder.fc = nn.Identity()
    for module, prefix in ((encoder, "encoder."), (head, "fusion.both.")):
        own = {n.removeprefix(prefix): v for n, v in initial.items() if n.startswith(prefix)}
        module.load_state_dict({name: v.clone() for name, v in own.items()})
    both, bce = nn.ModuleList([encoder, head]), nn.BCELoss()
    optimizer = torch.optim.SGD(both.parameters(), lr=1e-4, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)

    def probability(row):
        paths = sorted((root / TABLE.parent / row.ID).iterdir())
        pixels = np.stack([np.asarray(Image.open(path)) / 255 for path in paths])
        features = encoder(torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2)).mean(0)
        clinical = torch.tensor([row.LYMPH_COUNT, 2024.0 - int(row.DOB[-4:])])
        return torch.sigmoid(head(torch.cat([features, clinical])))

    def loss(p, row):
        return bce(p, torch.tensor([float(row.LABEL)]))

    splits = KFold(5, shuffle=True, random_state=42).split(table)
    train, held_out = (table.iloc[rows] for rows in list(splits)[FOLD])
    record = Record([], [], [], {})
    for _ in range(EPOCHS):
        both.train()
        for row in train.itertuples():
            optimizer.zero_grad()
            step = loss(probability(row), row)
            step.backward()
            optimizer.step()
            record.patients.append(row.ID)
            record.losses.append(step.item())
        scheduler.step()
        both.eval()
        with torch.no_grad():
            ps = [probability(row) for row in held_out.itertuples()]
            losses = [loss(p, row) for p, row in zip(ps, held_out.itertuples(), strict=True)]
        score = balanced_accuracy_score(held_out["LABEL"], [p.item() > 0.5 for p in ps])
        record.epochs.append([float(np.mean(losses)), score])
    record.probabilities.update(zip(held_out["ID"], map(float, ps), strict=True))
    return record


def test_two_epochs_are_those_of_the_plain_loop(root, trained):
    found, initial = trained
    expected = plain_loop(root, initial)
    assert found.patients == expected.patients
    assert sorted(expected.patients) != expected.patients  # ids sort otherwise than rows
    assert found.losses == pytest.approx(expected.losses, rel=1e-3, abs=1e-3)
    assert np.allclose(found.epochs, expected.epochs, atol=1e-3)
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-3)


def test_it_resumes_in_the_order_of_its_table_alone(configured, cohort, tmp_path, monkeypatch):
    words = ["experiment=paper_code", "fold=0", "data.train_bag_size=2", "data.batch_size=3"]
    fit, run = pl.Trainer.fit, tmp_path / "run"
    cross_validate(configured(*words), tmp_path / "whole")

    class Kill(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            assert not trainer.current_epoch, "killed"

    def killed(trainer, *args, **kwargs):
        trainer.callbacks.append(Kill())
        fit(trainer, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "fit", killed)
    with pytest.raises(AssertionError, match="killed"):
        cross_validate(configured(*words), run)
    monkeypatch.undo()
    other = shutil.copytree(cohort, tmp_path / "other")
    header, *rows = (cohort / TABLE).read_text().splitlines()
    (other / TABLE).write_text("\n".join([header, *reversed(rows)]))
    with pytest.raises(InputError, match="table or images have changed"):
        cross_validate(configured(*words, f"data.root={other}"), run)
    cross_validate(configured(*words), run)
    for name in ("folds.csv", "fold-0/predictions.csv", "fold-0/instances.csv"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
