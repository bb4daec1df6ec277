import numpy as np
import pytest
import torch
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.cache import hash_images
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images
from lymphoml.data.transforms import normalize, to_unit
from lymphoml.features.blocks import EncoderBlock, random_block
from lymphoml.features.feature_cache import load_features
from lymphoml.models.build import build

SPEC = {"_target_": "lymphoml.models.encoders.resnet10", "width": 2}
WHOLE = Preprocessing(None, None)


def features(images, cache, block):
    (store,) = load_features([block], hash_images(images), str(cache))
    return np.concatenate([store.bag(patient) for patient in images])


def network(seed=0, spec=SPEC):
    torch.manual_seed(seed)
    return build(spec).eval()


@pytest.mark.parametrize("stain_norm", [None, "reinhard"])
def test_features_are_those_of_the_pixels_that_training_would_see(images, tmp_path, stain_norm):
    block = EncoderBlock(SPEC, Preprocessing(24, None, stain_norm), normalize=True)
    pixels, _ = read_images(images, block.preprocessing, str(tmp_path))
    bags = np.concatenate([pixels.bag(patient) for patient in images])
    with torch.inference_mode():
        seen = normalize(to_unit(torch.from_numpy(bags).permute(0, 3, 1, 2)))
        expected = network()(seen).numpy()
    before = torch.random.get_rng_state()
    found = features(images, tmp_path, block)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found.shape == (6, 16)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_another_pillow_is_another_place_in_the_cache_but_the_same_encoder(monkeypatch):
    before = EncoderBlock(SPEC, WHOLE, False)
    monkeypatch.setattr("PIL.__version__", "0")
    after = EncoderBlock(SPEC, WHOLE, False)
    assert before.encoder == after.encoder
    assert before.encoder != EncoderBlock(SPEC, WHOLE, True).encoder
    assert before.key != after.key


def test_images_that_the_encoder_does_not_accept_are_a_line(images, tmp_path):
    spec = {"_target_": "lymphoml.models.encoders.timm_encoder", "name": "vit_tiny_patch16_224"}
    with pytest.raises(
        InputError, match=r"does not accept images of 32 x 32 pixels .*; set data\."
    ):
        features(images, tmp_path, EncoderBlock(spec, WHOLE, normalize=False))


def test_whatever_decides_on_the_features_decides_on_their_place(tmp_path):
    weights = tmp_path / "weights.pt"

    def saved(seed):
        torch.save(network(seed).state_dict(), weights)
        return SPEC | {"weights": str(weights)}

    keys = [
        EncoderBlock(SPEC, WHOLE, False).key,
        EncoderBlock(SPEC, WHOLE, False, seed=1).key,
        EncoderBlock(SPEC, Preprocessing(24, None), False).key,
        EncoderBlock(SPEC, WHOLE, True).key,
        EncoderBlock(SPEC, Preprocessing(None, None, "reinhard"), False).key,
        EncoderBlock(SPEC | {"norm": "group"}, WHOLE, False).key,
        EncoderBlock(saved(0), WHOLE, False).key,
        EncoderBlock(saved(1), WHOLE, False).key,  # the same path, another content
    ]
    assert len(set(keys)) == len(keys)
    assert EncoderBlock(SPEC, WHOLE, False).key == keys[0]
    assert EncoderBlock(SPEC | {"weights": str(weights)}, WHOLE, False, seed=5).key == keys[-1]


def test_weights_are_those_of_the_file_even_where_it_is_replaced(images, tmp_path):
    path = tmp_path / "weights.pt"
    found = []
    for seed in (3, 4):
        torch.save(network(seed).state_dict(), path)
        block = EncoderBlock(SPEC | {"weights": str(path)}, WHOLE, False)
        found.append(features(images, tmp_path / "cache", block))
        drawn = EncoderBlock(SPEC, WHOLE, False, seed=seed)
        assert np.array_equal(found[-1], features(images, tmp_path / "cache", drawn))
    assert not np.allclose(*found)


def test_random_networks_see_small_images_whole(images):
    for name in ("random_resnet18", "random_resnet18_layer3"):
        assert random_block(name, images, 0).preprocessing == Preprocessing(32, 32)
    names = random_block("random_resnet18", images, 0).names
    assert names[0] == "feature-32-pixels_0"  # no model of 128 pixels accepts these
    assert len(names) == 512


def test_layer3_is_that_of_the_same_network_at_full_resolution(images, tmp_path):
    for number, paths in enumerate(images.values()):
        for path in paths:
            pixels = np.random.default_rng(number).integers(0, 256, (140, 140, 3), np.uint8)
            Image.fromarray(pixels).save(path)
    whole = random_block("random_resnet18", images, 2)
    layer3 = random_block("random_resnet18_layer3", images, 2)
    assert whole.preprocessing == Preprocessing(128, 64)
    assert layer3.preprocessing == Preprocessing(128, 128)
    assert layer3.names[255] == "layer3_255"
    image = np.asarray(Image.open(images["P1"][0]))[6:134, 6:134]
    pixels = normalize(to_unit(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]))
    maps = []
    resnet = network(2, whole.spec)
    resnet.layer3.register_forward_hook(lambda *given: maps.append(given[-1]))
    with torch.inference_mode():
        resnet(pixels)
    expected = maps[0].mean((2, 3))[0].numpy()
    np.testing.assert_allclose(
        features(images, tmp_path, layer3)[0], expected, rtol=1e-4, atol=1e-5
    )
