"""`experiment=paper_code` against a loop in plain PyTorch, written from what the authors' does."""

import shutil

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import LambdaCallback
from sklearn.model_selection import KFold

from benchmarks.speed.recipe import Network
from lymphoml.core.errors import InputError
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, TABLE, configuration


def probability(network, root, row):
    paths = sorted((root / TABLE.parent / row.ID).iterdir())
    pixels = np.stack([np.asarray(Image.open(path)) / 255 for path in paths])
    clinical = torch.tensor([row.LYMPH_COUNT, 2024.0 - int(row.DOB[-4:])])
    images = torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2)
    return torch.sigmoid(network(images, clinical))


def test_an_epoch_is_that_of_the_plain_loop(tmp_path, monkeypatch):
    root, bce, steps, network = tmp_path / "cohort", torch.nn.BCELoss(), [], Network()
    synthesize(root, patients=15, test_patients=1, images=(2, 3), size=48, seed=3)
    table = pd.read_csv(root / TABLE, dtype={"DOB": str})
    table["LYMPH_COUNT"] *= 1000  # until sigmoids saturate
    table.to_csv(root / TABLE, index=False)
    fit, callback = pl.Trainer.fit, LambdaCallback(
        on_fit_start=lambda _, module: network.load_state_dict(
            {k.replace("fusion.both", "head"): v for k, v in module.model.state_dict().items()}),
        on_train_batch_end=lambda _, module, outputs, batch, number: steps.append(
            (*batch.ids, outputs["loss"].item())),
    )  # fmt: skip
    monkeypatch.setattr(pl.Trainer, "fit", lambda trainer, *args, **more: (
        trainer.callbacks.append(callback), fit(trainer, *args, **more)))  # fmt: skip
    words = ["experiment=paper_code", "model/encoder=resnet18", "data.folds=5", "fold=1"]
    words.append("trainer.max_epochs=1")
    cross_validate(configuration(root, tmp_path, *words), tmp_path / "run")
    optimizer, losses = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9), []
    splits = [*KFold(5, shuffle=True, random_state=42).split(table)]
    training, held_out = (table.iloc[rows] for rows in splits[1])
    for row in training.itertuples():
        optimizer.zero_grad()
        loss = bce(probability(network, root, row), torch.tensor(float(row.LABEL)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    patients, found = map(list, zip(*steps, strict=True))
    assert patients == list(training["ID"]) != sorted(training["ID"])
    assert found == pytest.approx(losses, rel=1e-3, abs=1e-3)
    assert max(losses) == 100
    with torch.no_grad():
        network.eval()
        p = torch.stack([probability(network, root, row) for row in held_out.itertuples()])
    fold = tmp_path / "run" / "fold-1"
    found = pd.read_csv(fold / "predictions.csv").set_index("patient")["probability"]
    assert found[held_out["ID"]].tolist() == pytest.approx(p.tolist(), abs=1e-3)
    loss = bce(p, torch.tensor(held_out["LABEL"].to_numpy()).float()).item()
    assert pd.read_csv(fold / "history.csv")["val/loss"][0] == pytest.approx(loss, abs=1e-3)


def test_another_order_of_rows_is_refused(configured, cohort, tmp_path):
    words = [*CLINICAL, "data.shuffle=false", "fold=0", "trainer.max_epochs=1"]
    cross_validate(configured(*words), tmp_path / "run")
    other = shutil.copytree(cohort, tmp_path / "other")
    header, *rows = (cohort / TABLE).read_text().splitlines()
    (other / TABLE).write_text("\n".join([header, *reversed(rows)]))
    with pytest.raises(InputError, match="table or images have changed"):
        cross_validate(configured(*words, f"data.root={other}"), tmp_path / "run")
