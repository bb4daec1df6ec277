"""Values of a configuration that are of the right type and still mean nothing."""

from typing import Any

from lymphoml.errors import InputError


def check(config: dict[str, Any]) -> None:
    """Raises InputError naming every such value, and what is allowed."""
    data, options, problems = config["data"], config["trainer"], []
    for key, value in {
        "data.folds": data["folds"] - 1, "data.repeats": data["repeats"],
        "data.bags_per_batch": data["bags_per_batch"], "trainer.max_epochs": options["max_epochs"],
        "trainer.validate_every": options["validate_every"],
        **{f"data.{key}": data[key] for key in ("max_instances", "eval_max_instances", "crop", "resize")
           if data[key] is not None},
    }.items():  # fmt: skip
        if value < 1:
            problems.append(f"{key}: {value} is too small")
    if not 0 <= data["inner_fraction"] <= 0.5:
        problems.append(f"data.inner_fraction={data['inner_fraction']}: allowed are 0 to 0.5")
    if not 0 <= data["colour"] < 1:
        problems.append(f"data.colour={data['colour']}: allowed are 0 to below 1")
    if options["patience"] is not None and not data["inner_fraction"]:
        problems.append(
            "trainer.patience needs data.inner_fraction above 0: a fold's own patients never "
            "choose when to stop"
        )
    if not (config["pos_weight"] in (None, "balanced") or _positive(config["pos_weight"])):
        problems.append(f"pos_weight={config['pos_weight']}: null, balanced or a number above 0")
    if problems:
        raise InputError(problems)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0
