"""The parts of an exported model: Pillow's resize, clinical values, every pooling and fusion."""

from itertools import product

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.export import Dim

from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.decoding import Preprocessing
from lymphoml.deploy.export import OUTPUTS
from lymphoml.deploy.graphs import Clinical, Encoders, Heads, Preprocess, to_onnx
from lymphoml.models.encoders import resnet10, timm_encoder, torchvision_encoder
from lymphoml.models.mil import MILModel
from tests.models.options import FUSIONS, POOLINGS, make_fusion, make_pooling

DIM, MODELS = 6, 2
CLINICAL = ClinicalEncoder(
    {"age": {"log": False}, "n": {"log": True}, "sex": {"categories": ["F", "M", "X"]}},
    {"age": 60.0, "n": 5.0, "sex": "M"}, [60.0, 1.0, 0.5, 0.1], [10.0, 0.5, 1.0, 1.0], ["sex=X"],
)  # fmt: skip
OTHER_NUMBERS = (1, 2, 3, 7, 50)  # of images than the sample's 5


@pytest.mark.parametrize(("crop", "resize"), [(None, 20), (40, 24), (40, None), (None, 64)])
def test_images_are_cropped_and_resized_as_by_pillow_to_the_bit(crop, resize):
    preprocess, rng = Preprocess(Preprocessing(crop, resize)), np.random.default_rng(0)
    for size in range(crop or 2, 100, 7):
        height, width = size, size + 9 if crop else size
        noise = rng.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
        for images in (noise, (noise > 128) * np.uint8(255)):  # overshoots at edges
            found = preprocess(torch.from_numpy(images)).permute(0, 2, 3, 1).numpy()
            for image, own in zip(images, found, strict=True):
                expected = Image.fromarray(image)
                if crop:
                    left, top = (width - crop) // 2, (height - crop) // 2
                    expected = expected.crop((left, top, left + crop, top + crop))
                if resize:
                    expected = expected.resize((resize, resize), Image.Resampling.BICUBIC)
                np.testing.assert_array_equal(own, np.asarray(expected))


def test_clinical_values_are_scaled_as_in_training():
    rows = [(50.0, 3.0, "X"), (np.nan, 80.0, "F"), (71.5, np.nan, None)]
    table = pd.DataFrame(rows, columns=["age", "n", "sex"])
    for row, expected in zip(rows, CLINICAL.transform(table), strict=True):
        values = [CLINICAL.number(name, each) for name, each in zip(table, row, strict=True)]
        found = Clinical(CLINICAL)(torch.tensor(values, dtype=torch.float64))
        np.testing.assert_array_equal(found[0].numpy(), expected)
    never_filled = Clinical(ClinicalEncoder(CLINICAL.columns, {}, CLINICAL.mean, CLINICAL.scale))
    assert never_filled(torch.full((3,), torch.nan, dtype=torch.float64)).isnan().all()


def assert_exported_equals(module, inputs, sizes, others):
    """The graph answers as the module does, for `others` of other numbers of images."""
    outputs = OUTPUTS if "values" in inputs else ["features_0"]
    content = to_onnx(module, inputs, outputs, sizes)
    session = onnxruntime.InferenceSession(content)
    names = [each.name for each in session.get_inputs()]
    for other in others:
        with torch.no_grad():
            expected = module(*other.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = session.run(None, {name: other[name].numpy() for name in names})
        for own, each in zip(found, expected, strict=True):
            np.testing.assert_allclose(own, each.numpy(), atol=1e-5, rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("pooling", "fusion"), [
    *((pooling, "mixture") for pooling in POOLINGS),
    *product(("attention", "max_score"), FUSIONS),  # of a vector, of a score
])  # fmt: skip
def test_every_pooling_and_fusion_answers_alike_for_bags_of_any_size(pooling, fusion):
    torch.manual_seed(0)
    models = []
    for _ in range(MODELS):
        pool = make_pooling(pooling, DIM)
        model = MILModel(nn.Identity(), pool, make_fusion(fusion, pool.dim, len(CLINICAL.mean)))
        for weight in model.parameters():
            nn.init.normal_(weight, std=0.4)
        models.append(model.eval())
    heads = Heads(models, [CLINICAL] * MODELS, 1).eval()

    def bag(count, *values):
        return {"features": torch.randn(MODELS, count, DIM),
                "values": torch.tensor(values, dtype=torch.float64)}  # fmt: skip

    sizes = {"features": {1: Dim("n", min=1)}}
    others = [bag(count, torch.nan, 3.0, 2.0) for count in OTHER_NUMBERS]
    assert_exported_equals(heads, bag(5, 55.0, 8.0, 1.0), sizes, others)


@pytest.mark.slow
@pytest.mark.parametrize(("factory", "name", "options"), [
    (resnet10, 16, {"norm": "group"}),
    (torchvision_encoder, "resnet18", {}),
    (torchvision_encoder, "resnet18", {"norm": "frozen"}),
    (torchvision_encoder, "resnet34", {"norm": "group"}),
    (torchvision_encoder, "efficientnet_b0", {}),
    (timm_encoder, "resnet10t", {"norm": "group"}),
    (timm_encoder, "mobilenetv3_small_050", {}),
    (timm_encoder, "convnext_atto", {}),
    (timm_encoder, "vit_tiny_patch16_224", {"img_size": 32, "depth": 2}),
])  # fmt: skip
def test_every_kind_of_encoder_answers_alike_for_bags_of_any_size(factory, name, options):
    torch.manual_seed(0)
    if factory is timm_encoder and "norm" not in options:
        options = options | {"norm": "batch"}
    model = MILModel(factory(name, **options), None, make_fusion("clinical", 0, 1)).eval()
    views = [[lambda images: images.float() / 255]]
    encoders = Encoders([model], views, Preprocess(Preprocessing(36, 32)))

    def images(count, height=40, width=45):
        return {"instances": torch.randint(256, (count, height, width, 3), dtype=torch.uint8)}

    sizes = {"instances": {0: Dim("n", min=1), 1: Dim("h", min=36), 2: Dim("w", min=36)}}
    others = [images(1), images(2, 36, 50), images(7, 61, 37)]
    assert_exported_equals(encoders, images(3), sizes, others)
