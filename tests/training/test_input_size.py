"""What is accepted can be trained; what is not is refused in a sentence before."""

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.models.encoders import resnet10, timm_encoder
from lymphoml.training.input_size import check_input_size


def small_encoder(norm="group"):
    encoder = timm_encoder("test_resnet", norm=norm)
    return encoder.to(memory_format=torch.channels_last)


def test_a_map_of_one_pixel_before_a_stride_is_refused():
    """torch 2.15's bf16 leaves gradients unset there: some are what was in memory."""
    check_input_size(small_encoder(), "test_resnet", (16, 16))
    with pytest.raises(InputError, match=r"trainer\.precision=32-true"):
        check_input_size(small_encoder(), "test_resnet", (16, 16), bf16_on_cpu=True)


def test_an_accepted_size_has_all_its_gradients():
    encoder = small_encoder()
    check_input_size(encoder, "test_resnet", (32, 32), bf16_on_cpu=True)
    for _ in range(10):
        torch.full((1 << 20,), float("nan"))  # what is left in freed memory
        encoder.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            features = encoder(torch.rand(3, 3, 32, 32))
        features.float().square().sum().backward()
        assert all(weight.grad.isfinite().all() for weight in encoder.parameters())


@pytest.mark.parametrize("norm", ["batch", "group", "frozen"])
@pytest.mark.parametrize("make", [lambda norm: resnet10(4, norm=norm), small_encoder])
def test_every_accepted_size_can_be_trained(make, norm):
    """From 1 to 33 pixels, in steps of one image and of two: both outcomes occur."""
    encoder, refused = make(norm), {}
    for side in (1, 2, 3, 8, 16, 17, 32, 33):
        for fewest in (1, 2):
            try:
                check_input_size(encoder, "small", (side, side), fewest=fewest)
            except InputError as error:
                refused[side, fewest] = str(error)
                continue
            assert encoder.training
            encoder.zero_grad()
            encoder(torch.rand(fewest, 3, side, side)).square().sum().backward()
            assert all(each.grad.isfinite().all() for each in encoder.parameters())
    assert ("BatchNorm" in refused.get((2, 1), "")) == (norm == "batch")
    assert not {(2, 2), (33, 1)} & refused.keys()


def test_what_turns_images_needs_square_ones():
    check_input_size(small_encoder(), "small", (40, 33))
    with pytest.raises(InputError, match=r"pretraining needs square .* 33 x 40 .*pretrain\.crop"):
        check_input_size(
            small_encoder(), "small", (40, 33), turned_by="pretraining", section="pretrain"
        )
