"""A run's models as two ONNX graphs: raw images to features, these and clinical values to answers.

The same bytes each time, and no path of this machine.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.decoding import Preprocessing
from lymphoml.models.mil import MILModel

OPSET = 20
PRECISION = 22  # bits of Pillow's weights after the point


class Preprocess(nn.Module):
    """From images as decoded (n h w 3), uint8, to those that a store holds (n 3 h w), uint8.

    The central crop, then Pillow's bicubic resize, to the bit: two products with its integer
    weights, rounded and clipped after each.
    """

    weights: Tensor

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.crop, self.resize = preprocessing.crop, preprocessing.resize
        if self.crop and self.resize:
            self.register_buffer("weights", pillow_weights(self.crop, self.resize))

    def forward(self, images: Tensor) -> Tensor:
        images = images.permute(0, 3, 1, 2)
        if self.crop:
            for axis in (2, 3):
                first = (images.shape[axis] - self.crop) // 2
                images = images.index_select(axis, first + torch.arange(self.crop))
        if not self.resize:
            return images
        weights = self.weights if self.crop else pillow_weights(images.shape[2], self.resize)
        rows = _round(images.double() @ weights.T)
        return _round(weights @ rows).to(torch.uint8)


def pillow_weights(size: int, resize: int) -> Tensor:
    """Return Pillow's bicubic weights (resize, size): whole numbers of 2^-PRECISION, in double."""
    places = torch.arange(size, dtype=torch.float64)
    scale = (places[-1] + 1) / resize
    width = scale.clamp(min=1)
    centre = ((torch.arange(resize, dtype=torch.float64) + 0.5) * scale).unsqueeze(1)
    first, last = (centre - 2 * width + 0.5).floor(), (centre + 2 * width + 0.5).floor()
    x = ((places - centre + 0.5) * (1 / width)).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    weights = torch.where((places >= first) & (places < last), weights, 0.0)
    weights = weights / weights.sum(1, keepdim=True) * 2**PRECISION
    return (weights.abs() + 0.5).floor() * weights.sign()


def _round(sums: Tensor) -> Tensor:
    return ((sums + 2 ** (PRECISION - 1)) / 2**PRECISION).floor().clamp(0, 255)


class Encoders(nn.Module):
    """From a bag's images (n h w 3), or vectors (n d), to features (v n e) by each model.

    There is one v for each of the `views` that evaluation averages over.
    """

    def __init__(
        self, models: Sequence[MILModel], views: Sequence[Sequence[Callable[..., Tensor]]],
        preprocess: nn.Module | None,
    ):  # fmt: skip
        super().__init__()
        self.preprocess = preprocess or nn.Identity()
        self.encoders = nn.ModuleList(
            model.encoder for model in models if model.encoder is not None
        )
        self.views = views

    def forward(self, instances: Tensor) -> tuple[Tensor, ...]:
        instances = self.preprocess(instances)
        features = []
        for encoder, views in zip(self.encoders, self.views, strict=True):
            of_views = torch.cat([view(instances) for view in views])  # through the network at once
            features.append(encoder(of_views).unflatten(0, (len(views), instances.shape[0])))
        return tuple(features)


class Clinical(nn.Module):
    """`ClinicalEncoder` of one patient: numbers (c), double, to features (1 k).

    The numbers are as in the table, a category its place in alphabetical order, NaN where missing.
    """

    fill: Tensor
    mean: Tensor
    scale: Tensor
    category: Tensor  # NaN of a number
    column: Tensor
    logged: Tensor
    used: Tensor

    def __init__(self, encoder: ClinicalEncoder):
        super().__init__()
        numbers: list[float] = []
        column: list[int] = []
        for place, each in enumerate(encoder.columns.values()):
            of_column = range(1, len(each["categories"])) if "categories" in each else [np.nan]
            numbers += of_column
            column += [place] * len(of_column)
        log = [bool(each.get("log")) for each in encoder.columns.values()]
        fill = [encoder.number(name, encoder.fill.get(name)) for name in encoder.columns]
        for name, values in (("fill", fill), ("mean", encoder.mean), ("scale", encoder.scale),
                             ("category", numbers)):  # fmt: skip
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.register_buffer("column", torch.tensor(column))
        self.register_buffer("logged", torch.tensor(log)[self.column])
        self.register_buffer("used", torch.tensor(~np.isin(encoder.names, encoder.constant)))

    def forward(self, values: Tensor) -> Tensor:
        values = torch.where(values.isnan(), self.fill, values)[self.column]
        is_category = values.eq(self.category).double() + 0 * values  # NaN of NaN
        numbers = torch.where(self.logged, values.log(), values)
        features = torch.where(self.category.isnan(), numbers, is_category)
        scaled = (features - self.mean) / self.scale
        return torch.where(self.used, scaled, 0.0).float().unsqueeze(0)


class Heads(nn.Module):
    """From a bag's features (m n e) and its clinical values (c) to what the models answer.

    There is one m for each model and view, model by model. Returns the mean probability, its logit,
    and the probability of each model (k).
    """

    def __init__(
        self, models: Sequence[MILModel], clinical: Sequence[ClinicalEncoder] | None, views: int
    ):
        super().__init__()
        self.models = nn.ModuleList(models)
        self.clinical: Any = clinical and nn.ModuleList(map(Clinical, clinical))
        self.views = views

    def forward(
        self, features: Tensor | None, values: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = []
        model: Any
        for number, model in enumerate(self.models):
            clinical = torch.zeros(1, 0) if self.clinical is None else self.clinical[number](values)
            if features is None:
                logits.append(model.classify(None, torch.ones(1).long(), clinical))
                continue
            lengths = torch.full((1,), features.shape[1])
            views = features[number * self.views : (number + 1) * self.views].unbind()
            each = [model.classify(view, lengths, clinical) for view in views]
            logits.append(torch.stack(each).mean(0))
        logit = torch.cat(logits)
        both = logsigmoid(logit.double()), logsigmoid(-logit.double())
        of_mean = both[0].logsumexp(0) - both[1].logsumexp(0)
        probabilities = both[0].exp()  # in double: cells' effects are differences of their logits
        return probabilities.mean(0), of_mean, probabilities


def to_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor | None], outputs: Sequence[str],
    sizes: Mapping[str, Mapping[int, Any]],
) -> bytes:  # fmt: skip
    """Return the graph of `module` in evaluation.

    `inputs` are samples, in the order of its arguments; `sizes` names, by input and axis, the sizes
    (`torch.export.Dim`) that are not the sample's; inputs that are None are not the graph's.
    """
    import onnx

    names = [name for name, sample in inputs.items() if sample is not None]
    shapes = [None if sample is None else sizes.get(name) for name, sample in inputs.items()]
    with warnings.catch_warnings(action="ignore"), _silence(), torch.no_grad():
        program = torch.export.export(
            module.eval(), tuple(inputs.values()), dynamic_shapes=shapes, strict=False
        ).run_decompositions(STABLE)
        converted: Any = torch.onnx.export(
            program, input_names=names, output_names=[*outputs], opset_version=OPSET,
            dynamo=True, verbose=False,
        )  # fmt: skip
    onnx.checker.check_model(converted.model_proto)
    return to_bytes(converted.model_proto)


def to_bytes(model: Any) -> bytes:
    """Return an ONNX model's content, the same each time, without notes on where it was made."""
    _strip(model)
    return model.SerializeToString(deterministic=True)


def _logaddexp(one: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(one, other) + (1 + (-(one - other).abs()).exp()).log()


def _expm1(x: Tensor) -> Tensor:
    series = x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5))))
    return torch.where(x.abs() < 0.1, series, x.exp() - 1)


def _log_sigmoid(x: Tensor) -> Tensor:
    return x.clamp(max=0) - (1 + (-x.abs()).exp()).log()


# ONNX has none of these; the exporter's own overflow, or round away what is small.
STABLE = {
    torch.ops.aten.logaddexp.default: _logaddexp,
    torch.ops.aten.expm1.default: _expm1,
    torch.ops.aten.log_sigmoid.default: _log_sigmoid,
}


def _strip(message: Any) -> None:
    """Remove what the exporter notes of the code that each node came from: paths, stack traces."""
    for field in ("metadata_props", "doc_string", "producer_name", "producer_version"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE and field.message_type.name != "TensorProto":
            for each in value if isinstance(value, Sequence) or hasattr(value, "add") else [value]:
                _strip(each)


@contextlib.contextmanager
def _silence() -> Any:
    """Keep the exporter's progress and advice to programmers off the terminal."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
