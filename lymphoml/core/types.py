"""What flows between the parts, and the letters that name a shape.

n: images of a batch's bags, one bag after the other; b: bags; c h w: channels, height, width;
d: features of an image or a pooled bag; k: clinical features of a patient.
"""

from typing import NamedTuple

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Pixels = Float[Tensor, "n c h w"]
Bytes = UInt8[Tensor, "n c h w"]
Features = Float[Tensor, "n d"]  # of each image
Lengths = Int[Tensor, " b"]  # images of each bag
Bags = Float[Tensor, "b d"]  # one pooled vector each
Clinical = Float[Tensor, "b k"]
PerBag = Float[Tensor, " b"]  # logits or labels
PerImage = Float[Tensor, " n"]  # scores or weights


class Batch(NamedTuple):
    """The bags of `b` patients, concatenated along `n` and never padded.

    Bag `i` is the `lengths[i]` images after the first `lengths[:i].sum()`.
    A NamedTuple, since Lightning moves one to the device and rejects a frozen dataclass.
    """

    # Pixels, or rows of features where the bags hold these.
    images: Pixels | Bytes | Features
    lengths: Lengths  # on the CPU, wherever the rest is: reading them waits for no GPU
    clinical: Clinical
    label: PerBag  # 1 tumoral, 0 reactive, -1 unknown
    ids: tuple[str, ...]
    augmentation_noise: Float[Tensor, "n 12"] | None = None  # uniform in [0, 1); None: evaluation
