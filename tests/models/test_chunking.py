"""Images in chunks: the features, gradients and statistics of all at once, in less memory."""

import pytest
import torch
from torch import nn

from lymphoml.models.chunking import activation_bytes, encode_in_chunks, has_batch_norm
from lymphoml.models.encoders import timm_encoder

IMAGES = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SCALES = torch.linspace(0.5, 2, 11)


def scale(images, scales):
    return images * scales[:, None, None, None]


def features_and_gradients(norm, size):
    torch.manual_seed(0)
    encoder = timm_encoder("test_resnet", norm=norm)
    features = encode_in_chunks(encoder, scale, size, IMAGES, SCALES)
    features.mean(0).square().sum().backward()
    return encoder, features.detach(), [p.grad for p in encoder.parameters()]


@pytest.mark.parametrize(("norm", "size"), [("group", 1), ("group", 4), ("frozen", 10)])
def test_features_and_gradients_are_those_of_all_images_at_once(norm, size):
    _, features, gradients = features_and_gradients(norm, size)
    _, expected, expected_gradients = features_and_gradients(norm, None)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    for chunked, whole in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-5 * whole.abs().max().item())


def test_batch_norm_takes_each_chunk_as_a_batch_of_its_own_and_counts_it_once():
    encoder, features, gradients = features_and_gradients("batch", 4)
    torch.manual_seed(0)
    reference = timm_encoder("test_resnet")
    expected = torch.cat([
        reference(scale(*chunk))
        for chunk in zip(IMAGES.tensor_split(3), SCALES.tensor_split(3), strict=True)
    ])  # fmt: skip
    expected.mean(0).square().sum().backward()
    torch.testing.assert_close(features, expected.detach())
    for gradient, parameter in zip(gradients, reference.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    for buffer, reference_buffer in zip(encoder.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(buffer, reference_buffer)


def test_random_layers_draw_the_same_in_both_passes():
    encoder, dropped = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), []
    encoder.append(nn.Linear(3 * 32 * 32, 2))
    encoder[1].register_forward_hook(lambda _, inputs, output: dropped.append(output.detach() == 0))
    encode_in_chunks(encoder, scale, 4, IMAGES, SCALES).sum().backward()
    first, second = dropped[:3], dropped[3:]
    assert len(second) == 3
    for chunk in second:  # the order of the backward pass is not fixed
        assert any(torch.equal(chunk, other) for other in first)
    assert 0.4 < torch.cat(first).float().mean() < 0.6


def test_only_features_are_kept_for_the_gradient():
    encoder, sizes = timm_encoder("test_resnet", norm="group"), []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    images = torch.rand(40, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encode_in_chunks(encoder, lambda images: images, None, images)
        at_once = sum(sizes)
        sizes.clear()
        encode_in_chunks(encoder, lambda images: images, 4, images)
    assert sum(sizes) <= images.numel() < at_once / 10


def test_evaluation_keeps_no_graph_and_splits_evenly():
    encoder, sizes = timm_encoder("test_resnet").eval(), []
    encoder.register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))
    with torch.no_grad():
        features = encode_in_chunks(encoder, scale, 5, IMAGES, SCALES)
        assert sizes == [4, 4, 3]
        torch.testing.assert_close(features, encoder(scale(IMAGES, SCALES)))
    assert not features.requires_grad


def test_saved_memory_grows_with_the_images_as_predicted():
    encoder = timm_encoder("test_resnet")
    each = activation_bytes(encoder, (32, 32), autocast=False)
    half = activation_bytes(encoder, (32, 32), autocast=True)
    larger = activation_bytes(encoder, (64, 64), autocast=False)
    assert 0.4 < half / each < 0.8
    assert 3.8 < larger / each < 4.2
    assert has_batch_norm(encoder)
    assert not has_batch_norm(encoder.eval())
