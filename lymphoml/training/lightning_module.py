"""Learning: a MIL model under binary cross-entropy and balanced accuracy."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from lymphoml.core.errors import InputError
from lymphoml.core.privacy import last_parts
from lymphoml.core.types import Batch
from lymphoml.data.datamodule import BagDataModule, Transform
from lymphoml.models.build import build, build_model
from lymphoml.training.checkpoint_schema import assert_compatible
from lymphoml.training.finite import check_finite_loss

# Images that evaluation looks at together: the same on every machine, and no larger bag costs more
# memory.
EVALUATED_AT_ONCE = 64


class Predicted(NamedTuple):
    """What the model says of a batch: probabilities of being tumoral."""

    ids: tuple[str, ...]
    lengths: Tensor  # (b)
    bags: Tensor  # (b)
    images: Tensor  # (n), of a bag of that image alone with its patient's clinical values; or (0)


class BagClassifier(pl.LightningModule):
    """The model, its loss and its optimiser, all described by primitives.

    `model`, `optim` and `scheduler` are specifications for `build`. `pos_weight` weighs tumoral
    patients in the loss. The trainer's datamodule has the transform of each batch, and the views
    whose logits evaluation averages. In training alone: `chunk_size` images go through the encoder
    at a time, None: all; labels are `label_smoothing` / 2 away from 0 and 1. Its checkpoints hold
    weights and primitives, nothing that runs, and no path of this machine.
    """

    def __init__(
        self,
        model: dict[str, Any],
        optim: dict[str, Any],
        scheduler: dict[str, Any] | None,
        clinical_dim: int,
        pos_weight: float | None = None,
        chunk_size: int | None = None,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(
            {
                "model": last_parts(model),
                "optim": optim,
                "scheduler": scheduler,
                "clinical_dim": clinical_dim,
                "pos_weight": pos_weight,
            }
        )
        self.chunk_size = chunk_size
        self.label_smoothing = label_smoothing
        self.model = build_model(model, clinical_dim).to(memory_format=torch.channels_last)
        # Where all is fitted, no gradient is there for Lightning to follow.
        self.automatic_optimization = any(each.requires_grad for each in self.model.parameters())
        # One pair of metrics for each validation loader: the fold's, and the inner split's.
        self.val_loss = torch.nn.ModuleList(
            MeanMetric(nan_strategy="disable") for _ in ("val", "inner")
        )
        # Hard classes in, balanced accuracy out; Accuracy(task="binary") ignores `average`.
        self.val_accuracy = torch.nn.ModuleList(
            MulticlassAccuracy(2, average="macro") for _ in ("val", "inner")
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits (b); positive says tumoral."""
        return self.model.classify(self.embed(batch), batch.lengths, batch.clinical)

    def setup(self, stage: str) -> None:
        """Fit what the fusion fits: before a checkpoint is restored, and deterministic."""
        if stage == "fit":
            bags: BagDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
            self.fit_clinical(*bags.training_clinical())
            self.fit_images(bags.training_bags())

    def fit_clinical(self, clinical: Tensor, label: Tensor) -> None:
        """Let the fusion fit what it fits to the training patients (b k), (b) before training."""
        self.model.fusion.fit_clinical(clinical, label, self.hparams["pos_weight"] or 1.0)

    @torch.no_grad()
    def fit_images(self, batches: Iterable[Batch]) -> None:
        """Let the fusion fit what it fits to the training patients' bags, seen as in evaluation.

        Comes after `fit_clinical`, and is as deterministic.
        """
        if not self.model.fusion.fits_images:
            return
        self.eval()
        bags, clinical, label = [], [], []
        for batch in batches:
            seen = [self.model.pool(view, batch.lengths) for view in self._evaluated(batch)]
            bags.append(torch.stack(seen).mean(dim=0))  # as linear as the mean of their logits
            clinical.append(batch.clinical)
            label.append(batch.label)
        together = (torch.cat(parts) for parts in (bags, clinical, label))
        self.model.fusion.fit_images(*together, self.hparams["pos_weight"] or 1.0)
        self.train()

    def on_train_epoch_start(self) -> None:
        # UserFacingError once an epoch: a call of `log` takes a millisecond, some steps take no more than ten.
        self._losses: list[Tensor] = []
        self._trained: list[tuple[str, ...]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features, label = self.embed(batch), batch.label
        logits = self.model.classify(features, batch.lengths, batch.clinical)
        losses = self._loss(logits, label + self.label_smoothing * (0.5 - label))
        self._losses.append(losses.detach())
        self._trained.append(batch.ids)
        self._refuse_divergence(batch_idx)
        if self.trainer.is_last_batch:
            mean = torch.cat(self._losses).mean()
            self.log("train/loss", mean, on_step=False, on_epoch=True, batch_size=1)
        return losses.mean()

    def _refuse_divergence(self, batch_idx: int) -> None:
        """At every step where looking is free; elsewhere once an epoch: it waits for the device."""
        on_cpu = self._losses[-1].device.type == "cpu"
        if on_cpu or self.trainer.is_last_batch:
            first = batch_idx if on_cpu else 0
            check_finite_loss(
                self._losses[first:], self._trained[first:], first, self.current_epoch, self.model
            )

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        each = [
            self.model.classify(features, batch.lengths, batch.clinical).float()
            for features in self._evaluated(batch)
        ]
        logits = torch.stack(each).mean(0)
        loss: Any = self.val_loss[dataloader_idx]
        accuracy: Any = self.val_accuracy[dataloader_idx]
        loss.update(self._loss(logits, batch.label))
        accuracy.update((logits > 0).long(), batch.label.long())

    def on_validation_epoch_end(self) -> None:
        for name, metrics in (("loss", self.val_loss), ("balanced_accuracy", self.val_accuracy)):
            metric: Any
            for stage, metric in zip(("val", "inner"), metrics, strict=True):
                if metric.update_called:
                    self.log(f"{stage}/{name}", metric.compute(), batch_size=1)
                    metric.reset()

    def predict_step(self, batch: Batch, batch_idx: int) -> Predicted:
        clinical, bags, images = batch.clinical, [], []
        for features in self._evaluated(batch):
            bags.append(self.model.classify(features, batch.lengths, clinical).float())
            if features is None:
                images.append(bags[0].new_empty(0))
            else:
                alone = torch.ones(len(features), dtype=batch.lengths.dtype)
                owner = torch.repeat_interleave(batch.lengths).to(clinical.device)
                images.append(self.model.classify(features, alone, clinical[owner]).float())
        probabilities = (torch.sigmoid(torch.stack(each).mean(0)) for each in (bags, images))
        return Predicted(batch.ids, batch.lengths, *probabilities)

    def configure_optimizers(self) -> Any:
        optimizer = build(self.hparams["optim"], self.parameters())
        spec = self.hparams["scheduler"]
        if spec is None or spec.get("_target_") is None:
            return optimizer
        scheduler = build(spec, optimizer)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise InputError(f"{spec['_target_']}: it would follow the fold that is scored")
        return [optimizer], [scheduler]  # stepped once an epoch

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises InputError where a run to be resumed is of another model or optimiser."""
        try:
            assert_compatible(self, checkpoint)
        except ValueError as error:
            raise InputError(f"checkpoint to resume from: {error}; train the fold again") from None

    def _evaluated(self, batch: Batch) -> Iterator[Tensor | None]:
        """The features of each view that evaluation averages over."""
        for view in self.trainer.datamodule.tta_views:  # type: ignore[attr-defined]
            yield self.embed(batch, view)

    def embed(self, batch: Batch, transform: Transform | None = None) -> Tensor | None:
        """The features of each image of the batch (n d); by default with the datamodule's own."""
        noise = batch.augmentation_noise
        return self.model.embed(
            batch.images,
            *(() if noise is None else (noise,)),
            transform=transform or self.trainer.datamodule.transform,  # type: ignore[attr-defined]
            chunk_size=self.chunk_size if self.training else EVALUATED_AT_ONCE,
        )

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Binary cross-entropy of each patient (b)."""
        weight = self.hparams["pos_weight"]
        return F.binary_cross_entropy_with_logits(
            logits.float(), label, reduction="none",
            pos_weight=None if weight is None else logits.new_tensor(weight).float(),
        )  # fmt: skip
