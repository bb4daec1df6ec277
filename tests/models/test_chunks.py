"""Images in chunks: the features, gradients and statistics of all at once, in less memory."""

import pytest
import torch
from torch import nn

from lymphoml.models.chunking import activation_bytes, encode_in_chunks, has_batch_norm
from lymphoml.models.encoders import timm_encoder

IMAGES = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SCALES = torch.linspace(0.5, 2, 11)


def view(images, scales):
    return images * scales[:, None, None, None]


def features_and_gradients(norm, size):
    torch.manual_seed(0)
    encoder = timm_encoder("test_resnet", norm=norm)
    features = encode_in_chunks(encoder, view, size, IMAGES, SCALES)
    features.mean(0).square().sum().backward()
    return encoder, features.detach(), [p.grad for p in encoder.parameters()]


@pytest.mark.parametrize("norm", ["group", "frozen"])
@pytest.mark.parametrize("size", [1, 4, 10])
def test_features_and_gradients_are_those_of_all_images_at_once(norm, size):
    _, features, gradients = features_and_gradients(norm, size)
    _, expected, expected_gradients = features_and_gradients(norm, None)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def test_batch_norm_takes_each_chunk_as_a_batch_of_its_own_and_counts_it_once():
    encoder, features, gradients = features_and_gradients("batch", 4)
    torch.manual_seed(0)
    reference = timm_encoder("test_resnet")
    parts = [reference(view(*rows)) for rows in zip(IMAGES.tensor_split(3), SCALES.tensor_split(3))]  # noqa: B905
    expected = torch.cat(parts)
    expected.mean(0).square().sum().backward()
    torch.testing.assert_close(features, expected.detach())
    for one, parameter in zip(gradients, reference.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
    for one, other in zip(encoder.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_random_layers_draw_the_same_both_times_through():
    encoder, drawn = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), []
    encoder.append(nn.Linear(3 * 32 * 32, 2))
    encoder[1].register_forward_hook(lambda _, inputs, output: drawn.append(output.detach() == 0))
    encode_in_chunks(encoder, view, 4, IMAGES, SCALES).sum().backward()
    first, again = torch.cat(drawn[:3]), drawn[3:]
    assert len(again) == 3
    # Backward begins with whichever chunk it likes.
    for chunk in again:
        assert any(torch.equal(chunk, other) for other in first.tensor_split(3))
    assert 0.4 < first.float().mean() < 0.6


def test_nothing_but_features_waits_for_the_gradient():
    """However many images there are, their activations are not among what is kept."""
    encoder, largest = timm_encoder("test_resnet", norm="group"), []

    def pack(tensor):
        largest.append(tensor.numel())
        return tensor

    images = torch.rand(40, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encode_in_chunks(encoder, lambda images: images, None, images)
        at_once = sum(largest)
        largest.clear()
        encode_in_chunks(encoder, lambda images: images, 4, images)
    assert sum(largest) <= images.numel() < at_once / 10


def test_evaluation_keeps_no_graph_and_gives_the_same_features():
    encoder = timm_encoder("test_resnet").eval()
    with torch.no_grad():
        features = encode_in_chunks(encoder, view, 3, IMAGES, SCALES)
        torch.testing.assert_close(features, encoder(view(IMAGES, SCALES)))
    assert not features.requires_grad


def test_chunks_are_of_one_size_but_for_one_image():
    seen = []

    def spy(images):
        seen.append(len(images))
        return images.flatten(1)

    with torch.no_grad():
        encode_in_chunks(nn.Identity(), spy, 5, IMAGES)
    assert seen == [4, 4, 3]


def test_saved_memory_grows_with_the_images_as_predicted():
    encoder = timm_encoder("test_resnet")
    each = activation_bytes(encoder, (32, 32), autocast=False)
    half = activation_bytes(encoder, (32, 32), autocast=True)
    larger = activation_bytes(encoder, (64, 64), autocast=False)
    assert 0.4 < half / each < 0.8
    assert 3.8 < larger / each < 4.2
    assert has_batch_norm(encoder)
    assert not has_batch_norm(encoder.eval())
