"""The drawings: two cell types that simple measurements separate, though not always."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphoml.data.synthetic.drawing import draw_slide, draw_smear


def draw(size: int, atypical: bool, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw_smear(size, atypical, draw_slide(rng), rng)


def centre(image: np.ndarray) -> np.ndarray:
    edge = len(image) // 4
    return image[edge:-edge, edge:-edge].astype(float)


def simple_features(image: np.ndarray) -> list[float]:
    """Areas and mean colours that one would measure with a ruler: no outline, no texture."""
    pixels = centre(image).reshape(-1, 3)
    red, _, blue = pixels.T
    dark = red < 120
    bluish = (blue > red) & ~dark
    return [dark.mean(), bluish.mean(), *pixels[dark].mean(0), *pixels.mean(0)]


@pytest.mark.parametrize(("size", "atypical"), [(16, True), (33, False), (64, True), (224, False)])
def test_image_is_a_smear_at_any_size(size: int, atypical: bool) -> None:
    image = draw(size, atypical, seed=1)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert centre(image)[..., 0].min() < 90  # a stained nucleus in the middle
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert border[:, 0].max() > 220  # plasma around
    assert border.min() > 20  # with red cells, none as dark as a nucleus


@pytest.mark.parametrize("atypical", [False, True])
def test_same_generator_same_bytes(atypical: bool) -> None:
    first, second, other = (draw(48, atypical, seed).tobytes() for seed in (3, 3, 4))
    assert first == second != other


def test_sizes_show_the_same_morphology() -> None:
    """The share of dark pixels, hence a network's task, hardly depends on the resolution."""
    for atypical in (False, True):
        small, large = (
            np.mean([simple_features(draw(size, atypical, seed))[0] for seed in range(30)])
            for size in (32, 96)
        )
        assert small == pytest.approx(large, rel=0.1)


def test_types_are_separable_but_overlap() -> None:
    size, types = 32, [False, True] * 200
    features = [simple_features(draw(size, t, seed)) for seed, t in enumerate(types)]
    judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    accuracy = cross_val_score(judge, features, types, cv=5).mean()
    assert 0.9 < accuracy < 0.995
