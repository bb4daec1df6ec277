"""Weights in published layouts: the same features from each, and what is refused."""

import re

import pytest
import torch
from torch.nn import functional as F

from lymphoml.core.errors import InputError
from lymphoml.models.encoders import timm_encoder

DIM, DEPTH, HEADS, PATCH = 16, 2, 2, 14
TINY = {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
PLAIN, REGISTERS, GIANT = (
    f"vit_{name}_dinov2" for name in ("small_patch14", "small_patch14_reg4", "giant_patch14")
)
IMAGES = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def hugging_face(registers=0, gated=False, side=2):
    """A state dict as transformers writes one of Dinov2Model, of random weights."""
    first, last, inner = ("weights_in", "weights_out", 44) if gated else ("fc1", "fc2", 4 * DIM)
    shapes = {"cls_token": (1, 1, DIM), "mask_token": (1, DIM),
              "position_embeddings": (1, 1 + side**2, DIM),
              "patch_embeddings.projection.weight": (DIM, 3, PATCH, PATCH),
              "patch_embeddings.projection.bias": (DIM,)}  # fmt: skip
    shapes |= {"register_tokens": (1, registers, DIM)} if registers else {}
    shapes = {f"embeddings.{key}": shape for key, shape in shapes.items()}
    layers = {"norm1": (DIM,), "norm2": (DIM,), "attention.output.dense": (DIM, DIM),
              f"mlp.{first}": (inner * (1 + gated), DIM), f"mlp.{last}": (DIM, inner)}  # fmt: skip
    layers |= {f"attention.attention.{name}": (DIM, DIM) for name in ("query", "key", "value")}
    layers = {f"encoder.layer.{i}.{k}": v for i in range(DEPTH) for k, v in layers.items()}
    for name, shape in (layers | {"layernorm": (DIM,)}).items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for block in range(DEPTH):
        shapes |= {f"encoder.layer.{block}.layer_scale{i}.lambda1": (DIM,) for i in (1, 2)}
    draw = torch.Generator().manual_seed(1)
    return {key: 0.3 * torch.randn(shape, generator=draw) for key, shape in shapes.items()}


def reference(state, images):
    """The class token's features, by the equations of Dosovitskiy et al. and Oquab et al."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, (DIM,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    patches = F.conv2d(images, state["embeddings.patch_embeddings.projection.weight"],
                       state["embeddings.patch_embeddings.projection.bias"], PATCH)  # fmt: skip
    tokens = patches.flatten(2).transpose(1, 2)
    tokens = torch.cat([state["embeddings.cls_token"].expand(len(tokens), -1, -1), tokens], 1)
    tokens = tokens + state["embeddings.position_embeddings"]
    if (extra := state.get("embeddings.register_tokens")) is not None:
        parts = [tokens[:, :1], extra.expand(len(tokens), -1, -1), tokens[:, 1:]]
        tokens = torch.cat(parts, 1)
    for block in range(DEPTH):
        name = f"encoder.layer.{block}"
        seen = norm(f"{name}.norm1", tokens)
        query, key, value = (
            linear(f"{name}.attention.attention.{each}", seen).unflatten(2, (HEADS, -1))
            for each in ("query", "key", "value")
        )
        scores = torch.einsum("nqhd,nkhd->nhqk", query, key) / (DIM / HEADS) ** 0.5
        mixed = torch.einsum("nhqk,nkhd->nqhd", scores.softmax(-1), value).flatten(2)
        mixed = linear(f"{name}.attention.output.dense", mixed)
        tokens = tokens + state[f"{name}.layer_scale1.lambda1"] * mixed
        seen = norm(f"{name}.norm2", tokens)
        if f"{name}.mlp.fc1.weight" in state:
            seen = linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", seen)))
        else:
            gate, inner = linear(f"{name}.mlp.weights_in", seen).chunk(2, -1)
            seen = linear(f"{name}.mlp.weights_out", F.silu(gate) * inner)
        tokens = tokens + state[f"{name}.layer_scale2.lambda1"] * seen
    return norm("layernorm", tokens)[:, 0]


def original(state, chunked=False):
    """The same weights as Meta's DINOv2 has them, whose blocks may come in chunks."""
    names = [(r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
             (r"embeddings\.position_embeddings", "pos_embed"), (r"embeddings\.", ""),
             (r"encoder\.layer\.(\d+)", r"blocks.\1.\1" if chunked else r"blocks.\1"),
             (r"attention\.output\.dense", "attn.proj"), ("layernorm", "norm"),
             (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
             ("weights_in", "w12"), ("weights_out", "w3")]  # fmt: skip
    made = {}
    for key, tensor in state.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        made[key] = tensor
    for key in [key for key in made if ".query." in key]:
        three = [key.replace("query", part) for part in ("query", "key", "value")]
        made[key.replace("attention.attention.query", "attn.qkv")] = torch.cat(
            [made.pop(each) for each in three]
        )
    return made


def dinobloom(state):
    """As its authors' training program wraps the same."""
    backbone = wrapped("backbone.", original(state, chunked=True))
    heads = {"dino_head.mlp.0.weight": torch.zeros(2, 2), "ibot_head.last_layer": torch.zeros(2)}
    return {"teacher": backbone | heads, "epoch": 3}


def wrapped(prefix, state):
    return {f"{prefix}{key}": each for key, each in state.items()}


LAYOUTS = [
    ("hugging_face", lambda state: state, "embeddings.mask_token"),
    ("classification", lambda state: wrapped("dinov2.", state) | {"classifier.bias": torch.ones(2)},
     "classifier.bias, embeddings.mask_token"),
    ("original", original, "mask_token"),
    ("distributed", lambda state: wrapped("module.", original(state)), "mask_token"),
    ("dinobloom", dinobloom, "epoch, dino_head.mlp.0.weight, ibot_head.last_layer and 1 more"),
]  # fmt: skip
VARIANTS = [(PLAIN, {}), (REGISTERS, {"registers": 4}), (GIANT, {"gated": True})]


def save(state, path):
    torch.save(state, path)
    return str(path)


@torch.no_grad()
@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=["plain", "registers", "gated"])
@pytest.mark.parametrize(("layout", "write", "dropped"), LAYOUTS)
def test_each_layout_gives_the_features_of_its_weights(
    layout, write, dropped, name, variant, tmp_path, capsys
):
    state = hugging_face(**variant)
    options = TINY | ({"mlp_ratio": 5.5} if name == GIANT else {})
    path = save(write(state), tmp_path / "weights.pth")
    frozen = timm_encoder(name, path, norm=None, trainable=False, img_size=28, **options).eval()
    torch.testing.assert_close(frozen(IMAGES), reference(state, IMAGES), rtol=1e-5, atol=1e-6)
    assert not any(each.requires_grad for each in frozen.parameters())
    printed = capsys.readouterr().out
    assert f"tensors used\nencoder weights: {path}: not part of the encoder, dropped: " in printed
    assert printed.endswith(f"dropped: {dropped}\n")


def test_a_trained_one_begins_there_and_learns(tmp_path):
    """Here from the state dict of a MILModel, with a pooling."""
    state = hugging_face()
    model = {key: each for key, each in original(state).items() if key != "mask_token"}
    path = save(wrapped("encoder.", model) | {"pooling.a": torch.ones(1)}, tmp_path / "model.pt")
    encoder = timm_encoder(PLAIN, path, img_size=28, **TINY)
    features = encoder(IMAGES)
    torch.testing.assert_close(features.detach(), reference(state, IMAGES), rtol=1e-5, atol=1e-6)
    features.sum().backward()
    assert all(each.grad is not None for each in encoder.parameters())


@torch.no_grad()
def test_position_embeddings_of_another_grid_are_interpolated(tmp_path, capsys):
    state = hugging_face(side=4)
    path = save(original(state), tmp_path / "weights.pth")
    encoder = timm_encoder(PLAIN, path, img_size=28, **TINY).eval()
    assert "interpolated from 4 x 4 patches to 2 x 2\n" in capsys.readouterr().out
    positions = state["embeddings.position_embeddings"]
    grid = positions[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(2, 2), mode="bicubic", antialias=True)
    smaller = torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)
    expected = reference(state | {"embeddings.position_embeddings": smaller}, IMAGES)
    torch.testing.assert_close(encoder(IMAGES), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"images of 30 are no multiple; set data.resize=28"):
        timm_encoder(PLAIN, path, img_size=30, **TINY)


def changed(**tensors):
    return lambda: original(hugging_face()) | tensors


def without(*names):
    return lambda: {key: each for key, each in original(hugging_face()).items() if key not in names}


def half_joined():
    state = hugging_face()
    del state["encoder.layer.0.attention.attention.key.bias"]
    return state


@pytest.mark.parametrize(("write", "name", "message"), [
    (changed(surplus=torch.zeros(1)), PLAIN, "unlike the encoder, surplus"),
    (without("norm.weight"), PLAIN, "has no norm.weight"),
    (lambda: original(hugging_face(registers=4)), PLAIN, "unlike the encoder, register_tokens"),
    (lambda: original(hugging_face()), REGISTERS, "has no reg_token"),
    (lambda: original(hugging_face()), "vit_small_patch16_224", r"\(16, 3, 14, 14\) instead of"),
    (changed(pos_embed=torch.zeros(1, 7, DIM)), PLAIN, r"pos_embed \(1, 7, 16\) instead of"),
    (changed(pos_embed=torch.zeros(5)), PLAIN, r"pos_embed \(5,\) instead of"),
    (changed(cls_token=torch.zeros(3)), PLAIN, r"cls_token \(3,\) instead of"),
    (changed(pos_embed=torch.full((1, 17, DIM), torch.nan)), PLAIN, "NaN or infinity in pos_embed"),
    (lambda: original(hugging_face(gated=True)), PLAIN, "has the shape blocks.0.mlp.fc1.weight"),
    (changed(**{"blocks.0.0.norm1.weight": torch.zeros(DIM)}), PLAIN, "norm1.weight twice"),
    (changed(**{"blocks.0.mlp.w3.bias": torch.zeros(DIM)}), PLAIN, "blocks twice, under"),
    (half_joined, PLAIN, "has no blocks.0.attn.qkv.bias"),
    (lambda: {"teacher": {"backbone.cls_token": 3}}, PLAIN, "is not a state dict"),
    (lambda: dinobloom(hugging_face())["teacher"] | {"other.weight": torch.zeros(1)}, PLAIN,
     "unlike the encoder, backbone.cls_token"),
])  # fmt: skip
def test_a_tensor_that_does_not_fit_is_refused(write, name, message, tmp_path):
    path = save(write(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message) as caught:
        timm_encoder(name, path, img_size=28, **TINY)
    assert all("weights.pth" in each and "\n" not in each for each in caught.value.problems)
