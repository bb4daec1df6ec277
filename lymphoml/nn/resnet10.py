"""A residual network small enough for some hundred patients."""

from torch import nn

from lymphoml.errors import InputError
from lymphoml.nn.encoders import finished


def resnet10(
    width: int, weights: str | None = None, norm: str = "batch", learns: bool = True
) -> nn.Module:
    """Four stages of one basic block each (He et al. 2016, "Deep Residual Learning").

    The stages have 1, 2, 4 and 8 times `width` channels; 64 is ResNet18's. The stem is 3 x 3 and
    halves once, not twice: it is for cells at 64 pixels. `weights` is a file or None, since nobody
    gives any away.
    """
    from torchvision.models.resnet import BasicBlock

    if width < 1:
        raise ValueError(f"width is {width}; give at least 1")
    if weights == "default":
        raise InputError("encoder weights: default; ResNet10 has none, give a file, or null")
    layers: list[nn.Module] = [*_convolution(3, width, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    inputs = width
    for channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
        shortcut = None if stride == 1 else nn.Sequential(*_convolution(inputs, channels, 1))
        layers.append(BasicBlock(inputs, channels, stride, shortcut))
        inputs = channels
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return finished(network, inputs, weights, norm, learns)


def _convolution(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    """And its norm; of one pixel it is a block's shortcut, which halves."""
    stride = 2 if kernel == 1 else 1
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)
