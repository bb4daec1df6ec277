"""`experiment=paper_code` against a loop in plain PyTorch, written from what the authors' does."""

import shutil

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold

from benchmarks.speed.recipe import Network
from lymphoml.core.errors import InputError
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import TABLE, configuration


class Observer(pl.Callback):
    def on_fit_start(self, trainer, module):
        self.patients, self.losses = [], []
        weights = module.model.state_dict().items()
        self.initial = {name.replace("fusion.both", "head"): v.clone() for name, v in weights}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.patients += batch.ids
        self.losses.append(outputs["loss"].item())


class Kill(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        assert not trainer.current_epoch, "killed"


def observed(config, folder, callback):
    fit = pl.Trainer.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "fit", lambda trainer, *args, **more: (
            trainer.callbacks.append(callback), fit(trainer, *args, **more)))  # fmt: skip
        cross_validate(config, folder)


def probability(network, root, row):
    paths = sorted((root / TABLE.parent / row.ID).iterdir())
    pixels = np.stack([np.asarray(Image.open(path)) / 255 for path in paths])
    clinical = torch.tensor([row.LYMPH_COUNT, 2024.0 - int(row.DOB[-4:])])
    images = torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2)
    return torch.sigmoid(network(images, clinical))


def test_an_epoch_is_that_of_the_plain_loop(tmp_path):
    root, observer, bce = tmp_path / "cohort", Observer(), torch.nn.BCELoss()
    synthesize(root, patients=15, test_patients=1, images=(2, 3), size=48, seed=3)
    table = pd.read_csv(root / TABLE, dtype={"DOB": str})
    table["LYMPH_COUNT"] *= 1000  # until sigmoids saturate
    table.to_csv(root / TABLE, index=False)
    words = ["experiment=paper_code", "model/encoder=resnet18", "data.folds=5", "fold=1",
             "trainer.max_epochs=1"]  # fmt: skip
    observed(configuration(root, tmp_path, *words), tmp_path / "run", observer)
    network = Network()
    network.load_state_dict(observer.initial)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    splits = [*KFold(5, shuffle=True, random_state=42).split(table)]
    train, held_out = (table.iloc[rows] for rows in splits[1])
    losses = []
    for row in train.itertuples():
        optimizer.zero_grad()
        loss = bce(probability(network, root, row), torch.tensor(float(row.LABEL)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert observer.patients == list(train["ID"]) != sorted(train["ID"])
    assert observer.losses == pytest.approx(losses, rel=1e-3, abs=1e-3)
    assert max(losses) == 100
    network.eval()
    with torch.no_grad():
        p = torch.stack([probability(network, root, row) for row in held_out.itertuples()])
    found = pd.read_csv(tmp_path / "run" / "fold-1" / "predictions.csv").set_index("patient")
    assert found["probability"][held_out["ID"]].tolist() == pytest.approx(p.tolist(), abs=1e-3)
    epoch = pd.read_csv(tmp_path / "run" / "fold-1" / "history.csv").iloc[0]
    label = torch.tensor(held_out["LABEL"].to_numpy()).float()
    assert epoch["val/loss"] == pytest.approx(bce(p, label).item(), abs=1e-3)
    assert epoch["val/balanced_accuracy"] == balanced_accuracy_score(label, p > 0.5)


def test_it_resumes_in_the_order_of_its_table_alone(configured, cohort, tmp_path):
    words = ["experiment=paper_code", "fold=0", "data.train_bag_size=2", "data.batch_size=3",
             "trainer.max_epochs=2"]  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "run"
    cross_validate(configured(*words), whole)
    with pytest.raises(AssertionError, match="killed"):
        observed(configured(*words), run, Kill())
    other = shutil.copytree(cohort, tmp_path / "other")
    header, *rows = (cohort / TABLE).read_text().splitlines()
    (other / TABLE).write_text("\n".join([header, *reversed(rows)]))
    with pytest.raises(InputError, match="table or images have changed"):
        cross_validate(configured(*words, f"data.root={other}"), run)
    cross_validate(configured(*words), run)
    for name in ("folds.csv", "fold-0/predictions.csv", "fold-0/instances.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
