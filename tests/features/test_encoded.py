import numpy as np
import pytest
import torch
from PIL import Image

from lymphoml.build import build
from lymphoml.data.decoding import Framing
from lymphoml.features.encoded import UNTRAINED, Encoded, untrained
from lymphoml.features.table import read_features

SPEC = {"_target_": "lymphoml.nn.encoders.timm_encoder", "name": "test_resnet"}


def rows(images, data, extractor):
    store = read_features(images, extractor, data)[0]
    return np.concatenate([store.bag(patient) for patient in images])


def test_features_are_the_encoders_of_the_configured_view(images, data):
    data = data | {"crop": 24, "normalise": True}
    extractor = Encoded(SPEC, data)
    found = rows(images, data, extractor)
    image = np.asarray(Image.open(images["P1"][0]))[4:28, 4:28]
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = extractor.encoder(extractor.view(pixels))
    assert found.shape == (6, extractor.encoder.dim)
    assert found[0] == pytest.approx(expected[0].numpy(), rel=1e-4, abs=1e-5)


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
        Encoded(SPEC, data).settings,
        Encoded(SPEC, data, seed=1).settings,
        Encoded(SPEC, data | {"crop": 24}).settings,
        Encoded(SPEC, data | {"normalise": True}).settings,
        Encoded(SPEC | {"norm": "group"}, data).settings,
        Encoded(saved(0), data).settings,
        Encoded(saved(1), data).settings,  # the same path, another content
    ]
    assert len(set(places)) == len(places)
    assert Encoded(SPEC, data).settings == places[0]
    assert Encoded(SPEC | {"weights": str(weights)}, data, seed=5).settings == places[-1]


def test_weights_are_those_of_the_file(images, data, tmp_path):
    torch.manual_seed(3)
    network = build(SPEC)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    spec = SPEC | {"weights": str(tmp_path / "weights.pt")}
    one, other = (rows(images, data, Encoded(spec, data, seed)) for seed in (0, 1))
    assert np.array_equal(one, other)
    assert not np.allclose(one, rows(images, data, Encoded(SPEC, data)))


def test_the_control_sees_small_images_whole(images):
    assert untrained(images).framing == Framing(32, 32)
    assert UNTRAINED["name"] == "resnet18"
