"""Train and evaluate a MIL model with Lightning: loss, optimiser, metrics, predictions."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lymphoml.core.errors import InputError
from lymphoml.core.privacy import last_parts
from lymphoml.core.types import Batch, Features
from lymphoml.data.datamodule import Transform
from lymphoml.models.build import build, build_model
from lymphoml.models.chunking import EVALUATION_CHUNK
from lymphoml.training.checkpoint_schema import assert_compatible
from lymphoml.training.finite import check_finite_loss


class BagPredictions(NamedTuple):
    """A batch's probabilities of the positive class."""

    ids: tuple[str, ...]
    lengths: Tensor  # (b)
    bags: Tensor  # (b)
    images: Tensor  # (n), of a bag of that image alone with its patient's clinical values; or (0)


def _make_metrics(stage: str) -> MetricCollection:
    """Return the mean of losses (`value`), and the balanced accuracy of classes (`preds`)."""
    # Of classes, not logits: Accuracy(task="binary") ignores `average`.
    accuracy = MulticlassAccuracy(2, average="macro")
    metrics: Any = {"loss": MeanMetric(nan_strategy="disable"), "balanced_accuracy": accuracy}
    return MetricCollection(metrics, prefix=f"{stage}/", compute_groups=False)


def bce_of_probabilities(logits: Tensor, label: Tensor) -> Tensor:
    """Return that of `torch.nn.BCELoss` after a sigmoid (b): at most 100, NaN of a NaN.

    However wrong, a logit above 17, whose probability is 1, has no gradient, and one below -28
    next to none.
    """
    with torch.autocast(logits.device.type, enabled=False):  # which torch refuses
        probability = torch.sigmoid(logits)
        losses = F.binary_cross_entropy(probability.nan_to_num(), label, reduction="none")
    return losses.masked_fill(probability.isnan(), torch.nan)


class BagClassifier(pl.LightningModule):
    """A MIL model, its loss and its optimiser, all described by primitives.

    `model`, `optim` and `scheduler` are specifications for `build`; `feature_dim` is the width of
    feature vectors, where bags have these. `pos_weight` multiplies the loss of positive patients.
    Only in training, `chunk_size` images go through the encoder at a time (None: all), and labels
    are `label_smoothing` / 2 away from 0 and 1. The trainer's data module has the transform of
    each batch, and the views whose logits evaluation averages. `after_sigmoid` computes the loss
    from probabilities (`bce_of_probabilities`). Checkpoints have weights and primitives, and no
    path of this machine.
    """

    def __init__(
        self, model: dict[str, Any], optim: dict[str, Any], scheduler: dict[str, Any] | None,
        clinical_dim: int, feature_dim: int | None = None, pos_weight: float | None = None,
        chunk_size: int | None = None, label_smoothing: float = 0.0, after_sigmoid: bool = False,
    ):  # fmt: skip
        super().__init__()
        kept = {"model": last_parts(model), "optim": optim, "scheduler": scheduler}
        sizes = {"clinical_dim": clinical_dim, "feature_dim": feature_dim, "pos_weight": pos_weight}
        self.save_hyperparameters(kept | sizes, logger=False)
        self.chunk_size, self.label_smoothing = chunk_size, label_smoothing
        self.after_sigmoid = after_sigmoid
        self.model = build_model(model, clinical_dim, feature_dim).to(
            memory_format=torch.channels_last
        )
        # Where every part is fitted there is no gradient for Lightning to follow.
        self.automatic_optimization = any(each.requires_grad for each in self.model.parameters())
        # By validation loader: the held-out fold, and the inner split where there is one.
        self.val_metrics = torch.nn.ModuleList(_make_metrics(stage) for stage in ("val", "inner"))

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits (b) of a batch; a positive one means the positive class."""
        return self.model.classify(self.embed(batch), batch.lengths, batch.clinical)

    def embed(self, batch: Batch, transform: Transform | None = None) -> Features | None:
        """Return the features of each image, by default with the data module's own transform."""
        noise = batch.augmentation_noise
        return self.model.embed(
            batch.images,
            *(() if noise is None else (noise,)),
            transform=transform or self.trainer.datamodule.transform,  # type: ignore[attr-defined]
            chunk_size=self.chunk_size if self.training else EVALUATION_CHUNK,
        )

    def _embed_views(self, batch: Batch) -> Iterator[Features | None]:
        """Yield the features of each view that evaluation averages over."""
        for view in self.trainer.datamodule.tta_views:  # type: ignore[attr-defined]
            yield self.embed(batch, view)

    def setup(self, stage: str) -> None:
        """Fit what the fusion fits. Deterministic: a checkpoint restored later has the same."""
        if stage == "fit":
            bags: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            pos_weight = self.hparams["pos_weight"] or 1.0
            self.model.fusion.fit_clinical(*bags.training_clinical(), pos_weight)
            if self.model.fusion.fits_images:
                self.model.fusion.fit_images(*self._pool(bags.training_bags()), pos_weight)

    @torch.no_grad()
    def _pool(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, Tensor]:
        """Return pooled bags as in evaluation (b d), clinical values (b k) and labels (b)."""
        self.eval()
        bags, clinical, label = [], [], []
        for batch in batches:
            views = [self.model.pool(each, batch.lengths) for each in self._embed_views(batch)]
            bags.append(torch.stack(views).mean(dim=0))  # as linear as the mean of their logits
            clinical.append(batch.clinical)
            label.append(batch.label)
        self.train()
        return torch.cat(bags), torch.cat(clinical), torch.cat(label)

    def _step(self, batch: Batch, stage: str) -> tuple[Tensor, Tensor]:
        """Return the binary cross-entropy of each patient (b) and its logit (b)."""
        label, weight = batch.label, self.hparams["pos_weight"]
        if stage == "train":
            logits = self(batch)
            label = label + self.label_smoothing * (0.5 - label)
        else:
            views = [
                self.model.classify(features, batch.lengths, batch.clinical).float()
                for features in self._embed_views(batch)
            ]
            logits = torch.stack(views).mean(0)
        if self.after_sigmoid:
            return bce_of_probabilities(logits.float(), label), logits
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), label, reduction="none",
            pos_weight=None if weight is None else logits.new_tensor(weight).float(),
        )  # fmt: skip
        return losses, logits

    def on_train_epoch_start(self) -> None:
        # Logged once an epoch: a call of `log` takes a millisecond, some steps less than ten.
        self._losses: list[Tensor] = []
        self._patients: list[tuple[str, ...]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses, _ = self._step(batch, "train")
        self._losses.append(losses.detach())
        self._patients.append(batch.ids)
        on_cpu, last = losses.device.type == "cpu", self.trainer.is_last_batch
        if on_cpu or last:  # elsewhere once an epoch, as it waits for the device
            first = batch_idx if on_cpu else 0
            recent = self._losses[first:], self._patients[first:]
            check_finite_loss(*recent, first, self.current_epoch, self.model)
        if last:
            mean = torch.cat(self._losses).mean()
            self.log("train/loss", mean, on_step=False, on_epoch=True, batch_size=1)
        return losses.mean()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        losses, logits = self._step(batch, "val")
        metrics: Any = self.val_metrics[dataloader_idx]
        metrics.update(value=losses, preds=(logits > 0).long(), target=batch.label.long())

    def on_validation_epoch_end(self) -> None:
        metrics: Any
        for metrics in self.val_metrics:
            if metrics["loss"].update_called:
                values, counts = metrics.compute(), metrics["balanced_accuracy"]
                if (counts.tp + counts.fn).min() == 0:  # of one class there is none
                    values[f"{metrics.prefix}balanced_accuracy"] = torch.nan
                self.log_dict(values, batch_size=1)
                metrics.reset()

    def predict_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        clinical, bags, images = batch.clinical, [], []
        for features in self._embed_views(batch):
            bags.append(self.model.classify(features, batch.lengths, clinical).float())
            if features is None:
                images.append(bags[0].new_empty(0))
            else:
                single = torch.ones(len(features), dtype=batch.lengths.dtype)
                owner = torch.repeat_interleave(batch.lengths).to(clinical.device)
                images.append(self.model.classify(features, single, clinical[owner]).float())
        probabilities = (torch.sigmoid(torch.stack(each).mean(0)) for each in (bags, images))
        return BagPredictions(batch.ids, batch.lengths, *probabilities)

    def configure_optimizers(self) -> Any:
        optimizer = build(self.hparams["optim"], self.parameters())
        spec = self.hparams["scheduler"]
        if spec is None or spec.get("_target_") is None:
            return optimizer
        scheduler = build(spec, optimizer)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise InputError(f"scheduler={spec['_target_']} would follow the held-out fold")
        return [optimizer], [scheduler]  # stepped once an epoch

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise InputError where the checkpoint is of another model or optimiser."""
        try:
            assert_compatible(self, checkpoint)
        except ValueError as error:
            raise InputError(f"checkpoint to resume from: {error}; train the fold again") from None
