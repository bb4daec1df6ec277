import numpy as np
import pytest
import torch
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.cache import hash_images
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images
from lymphoml.features.feature_cache import read_features
from lymphoml.features.frozen_encoder import UNTRAINED, FrozenEncoder, untrained, untrained_layer3
from lymphoml.models.build import build

SPEC = {"_target_": "lymphoml.models.encoders.timm_encoder", "name": "test_resnet"}


def rows(images, data, extractor):
    store = read_features(hash_images(images), extractor, data)
    return np.concatenate([store.bag(patient) for patient in images])


def test_features_are_the_encoders_of_the_configured_view(images, data):
    data = data | {"crop": 24, "normalize_images": True}
    extractor = FrozenEncoder(SPEC, data)
    found = rows(images, data, extractor)
    image = np.asarray(Image.open(images["P1"][0]))[4:28, 4:28]
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = extractor.encoder(extractor.view(pixels))
    assert found.shape == (6, extractor.encoder.dim)
    assert found[0] == pytest.approx(expected[0].numpy(), rel=1e-4, abs=1e-5)


def test_features_are_those_of_the_pixels_that_training_would_see(images, data):
    data = data | {"stain_norm": "reinhard"}
    extractor = FrozenEncoder(SPEC, data)
    found = read_features(hash_images(images), extractor, data)
    pixels, _ = read_images(
        images, Preprocessing(data["crop"], data["resize"], data["stain_norm"]), data["cache"]
    )
    for patient in images:
        seen = torch.from_numpy(np.array(pixels.bag(patient))).permute(0, 3, 1, 2)
        with torch.inference_mode():
            expected = extractor.encoder(extractor.view(seen)).numpy()
        np.testing.assert_allclose(found.bag(patient), expected, rtol=1e-4, atol=1e-5)
    as_they_are = rows(images, data, FrozenEncoder(SPEC, data | {"stain_norm": None}))
    assert not np.allclose(rows(images, data, extractor), as_they_are, atol=1e-3)


def test_a_patient_without_stain_is_named(images, data):
    Image.new("RGB", (32, 32), (240, 240, 240)).save(images["P10"][0])
    data = data | {"stain_norm": "macenko"}
    with pytest.raises(InputError, match=r"patient P10: .*data\.stain_norm=macenko"):
        read_features(hash_images(images), FrozenEncoder(SPEC, data), data)


def test_a_seed_gives_the_same_features_and_leaves_the_global_generator(images, data, tmp_path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = rows(images, data, untrained(images))
    assert torch.equal(torch.random.get_rng_state(), before)
    elsewhere = data | {"cache": str(tmp_path / "other")}
    assert np.array_equal(rows(images, elsewhere, untrained(images)), first)
    assert not np.allclose(rows(images, data, untrained(images, seed=1)), first)


def test_whatever_decides_on_the_features_decides_on_their_place(images, data, tmp_path):
    weights = tmp_path / "weights.pt"

    def saved(seed):
        torch.manual_seed(seed)
        torch.save(build(SPEC).state_dict(), weights)
        return SPEC | {"weights": str(weights)}

    places = [
        FrozenEncoder(SPEC, data).settings,
        FrozenEncoder(SPEC, data, seed=1).settings,
        FrozenEncoder(SPEC, data | {"crop": 24}).settings,
        FrozenEncoder(SPEC, data | {"normalize_images": True}).settings,
        FrozenEncoder(SPEC, data | {"stain_norm": "reinhard"}).settings,
        FrozenEncoder(SPEC | {"norm": "group"}, data).settings,
        FrozenEncoder(saved(0), data).settings,
        FrozenEncoder(saved(1), data).settings,  # the same path, another content
    ]
    assert len(set(places)) == len(places)
    assert FrozenEncoder(SPEC, data).settings == places[0]
    assert FrozenEncoder(SPEC | {"weights": str(weights)}, data, seed=5).settings == places[-1]


def test_weights_are_those_of_the_file(images, data, tmp_path):
    torch.manual_seed(3)
    network = build(SPEC)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    spec = SPEC | {"weights": str(tmp_path / "weights.pt")}
    one, other = (rows(images, data, FrozenEncoder(spec, data, seed)) for seed in (0, 1))
    assert np.array_equal(one, other)
    assert not np.allclose(one, rows(images, data, FrozenEncoder(SPEC, data)))


def test_the_control_sees_small_images_whole(images):
    assert untrained(images).framing == untrained_layer3(images).framing == Preprocessing(32, 32)
    assert untrained(images).names[0] == "feature-32-pixels_0"  # no model of 128 takes these
    assert UNTRAINED["name"] == "resnet18"


def test_layer3_is_that_of_the_same_network_at_full_resolution(images, data, tmp_path):
    for number, paths in enumerate(images.values()):
        for path in paths:
            pixels = np.random.default_rng(number).integers(0, 256, (140, 140, 3), np.uint8)
            Image.fromarray(pixels).save(path)
    whole, middle = untrained(images, seed=2), untrained_layer3(images, seed=2)
    assert (whole.framing, middle.framing) == (Preprocessing(128, 64), Preprocessing(128, 128))
    assert middle.names[255] == "layer3_255"
    image = np.asarray(Image.open(images["P1"][0]))[6:134, 6:134]
    pixels = middle.view(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
    maps = []
    whole.encoder.layer3.register_forward_hook(lambda *given: maps.append(given[-1]))
    with torch.inference_mode():
        whole.encoder(pixels)
    expected = maps[0].mean((2, 3))[0].numpy()
    np.testing.assert_allclose(rows(images, data, middle)[0], expected, rtol=1e-3, atol=1e-5)
