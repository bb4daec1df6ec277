"""Which images pretraining saw: what every number that descends from it must say."""

from collections.abc import Sequence
from typing import Any

ACCOUNT = "pretraining"  # of metrics.json
KINDS = {"method": str, "scope": str, "validation_images_seen": bool, "transductive": bool}
SEEN = "images of the validation patients were seen without labels"
UNSEEN = "images of the validation patients were not seen"
TRANSDUCTIVE = "transductive: images of the unlabelled patients were seen"


def account(settings: dict[str, Any]) -> dict[str, Any]:
    """Of an encoder that the group `pretrain` made."""
    return {
        "method": settings["method"],
        "scope": settings["scope"],
        "validation_images_seen": settings["scope"] == "cohort",
        "transductive": settings["include_test"],
    }


def together(accounts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of what several encoders make together: it has seen whatever any of them saw."""
    told: dict[str, Any] = {}
    for key, kind in KINDS.items():
        values = [account[key] for account in accounts]
        word = values[0] if len(set(values)) == 1 else "several"
        told[key] = any(values) if kind is bool else word
    return told


def checked(told: Any) -> dict[str, Any]:
    """Raises ValueError for what is no account; it may be a stranger's."""
    if not isinstance(told, dict) or not all(type(told.get(k)) is v for k, v in KINDS.items()):
        raise ValueError("its account of pretraining is damaged")
    if not all(told[key].isidentifier() for key in ("method", "scope")):
        raise ValueError("its account of pretraining is damaged")
    return {key: told[key] for key in KINDS}


def held_out_seen(told: dict[str, Any] | None) -> bool:
    """Whether images of the patients that each fold held out were among them."""
    return bool((told or {}).get("validation_images_seen"))


def described(told: dict[str, Any]) -> str:
    """An account in words."""
    seen = SEEN if told["validation_images_seen"] else UNSEEN
    words = [f"encoder pretrained by {told['method']}", seen]
    return ", ".join(words + [TRANSDUCTIVE] * told["transductive"])
