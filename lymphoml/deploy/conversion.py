"""A module of torch as an ONNX graph: the same bytes each time, and no path of this machine."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 20


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
