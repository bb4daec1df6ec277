"""What the configuration's group `pretrain` means in a run, and where it means anything."""

from collections.abc import Sequence
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.data.stain_normalization import NORMALIZERS
from lymphoml.features.extractors import PRETRAINED

METHODS = ("simclr", "vicreg", "autoencoder")
INPUTS = ("crop", "resize", "normalize_images", "stain_norm")  # of images to what an encoder sees


def gives_weights(config: dict[str, Any]) -> bool:
    """Whether the run's own encoder begins with what pretraining makes."""
    return (config["model"].get("encoder") or {}).get("weights") == PRETRAINED


def settle(config: dict[str, Any], rows: Sequence[str]) -> dict[str, Any] | None:
    """The group as it is used by a run whose bags hold `rows`; left out of `config` where unused.

    So it is part of the identity of no other run. Where the run's own encoder begins pretrained, it
    is that encoder, and it sees what the run sees. Raises InputError for what means nothing.
    """
    if not gives_weights(config) and PRETRAINED not in rows:
        config.pop("pretrain", None)
        return None
    settings, data = config["pretrain"], config["data"]
    if gives_weights(config):
        settings["encoder"] = config["model"]["encoder"]
        settings |= {key: data[key] for key in INPUTS}
    settings["encoder"] = trainable(settings["encoder"])
    check(settings)
    return settings


def refuse_pretraining(words: Sequence[str]) -> None:
    """Raises InputError where a run that begins with no pretraining was given words for one."""
    keys = [word.lstrip("+~").partition("=")[0] for word in words]
    given = [
        word
        for word, key in zip(words, keys, strict=True)
        if key.split(".")[0] == "pretrain" or "@pretrain" in key
    ]
    if given:
        raise InputError(
            f"{' '.join(given)}: this run pretrains nothing; add model.encoder.weights=pretrained "
            f"or model.encoder.rows=pretrained, or leave it out"
        )


def trainable(encoder: dict[str, Any]) -> dict[str, Any]:
    """The same network from scratch, every weight and statistic learning."""
    if "rows" in encoder:
        raise InputError(
            "pretrain.encoder: rows hold no pixels; give a network, as "
            "model/encoder@pretrain.encoder=resnet18"
        )
    kept = {key: value for key, value in encoder.items() if key not in ("weights", "trainable")}
    return kept | {"norm": "batch"} if kept.get("norm") == "frozen" else kept


def check(settings: dict[str, Any]) -> None:
    """Raises InputError naming every value that means nothing, and what is allowed."""
    problems = [f"pretrain.method={settings['method']}: allowed are {', '.join(METHODS)}"] * (
        settings["method"] not in METHODS
    )
    for key, least in (("epochs", 1), ("batch_size", 2), ("crop", 1), ("resize", 1)):
        if settings[key] is not None and settings[key] < least:
            problems.append(f"pretrain.{key}={settings[key]}: allowed is {least} or more")
    if settings["stain_norm"] not in (None, *NORMALIZERS):
        problems.append(
            f"pretrain.stain_norm={settings['stain_norm']}: allowed are null, "
            f"{', '.join(NORMALIZERS)}"
        )
    if not 0 < settings["zoom"] <= 1:
        problems.append(f"pretrain.zoom={settings['zoom']}: allowed are above 0 to 1")
    for key in ("shift", "colour"):
        if not 0 <= settings[key] < 1:
            problems.append(f"pretrain.{key}={settings[key]}: allowed are 0 to below 1")
    if not settings["lr"] > 0:
        problems.append(f"pretrain.lr={settings['lr']}: allowed is above 0")
    if problems:
        raise InputError(problems)
