"""Tables of how faithful explanations are, for the page: `faithfulness.json` in rows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lymphoml.core.errors import InputError
from lymphoml.explain.tables import EARLIER, FOLDER, LEAVE_ONE_OUT, REGION

Entry = dict[str, Any]  # value, low, high, patients
CHECKS = {"cells_deletion": "cells left out", "cells_insertion": "cells alone",
          "places_deletion": "places blurred", "places_insertion": "places sharpened"}  # fmt: skip
MODELS = ("run", "control", "untrained")
REGION_CONTROLS = ("area", "disc", "untrained", "control")
NAMES = {
    LEAVE_ONE_OUT: "without the cell", "attention": "attention", "occlusion": "occlusion",
    "grad_cam": "Grad-CAM", EARLIER: "Grad-CAM, a stage earlier",
    "run": "this run", "control": "control run", "untrained": "untrained",
    "random": "random order", "reverse": "reverse order", "centre_first": "centre first",
    "other_image": "another image's map", "mean_map": "mean map", "area": "area", "disc": "disc",
}  # fmt: skip
OF_CONTROLS = (
    "How far the logit towards the model's own call moves as cells, or places in them, go in order "
    "of their evidence, less the same in another order: above 0, the order says more than that "
    "one. Mean over patients, 95 % interval. * right by construction: no evidence."
)
OF_MODELS = (
    "The same for models that must know nothing of the disease: faithful to a model is not true."
)
OF_REGIONS = (
    "Does the network look at the cell? Share of the evidence for the model's call in the nucleus "
    "or the whole cell, less the region's share of the image, the share in a centred disc as large "
    "as the cell, and the share in other models."
)
OF_WEIGHTS = (
    "Rank correlation with the scores of the same network after all of its weights were drawn "
    "anew, and with those of another fold's model: a map that the weights do not change shows "
    "the image, not the model."
)


class Table(NamedTuple):
    """Rows are a name, then an entry, or None, a column."""

    columns: Sequence[str]
    rows: list[tuple[Any, ...]]
    caption: str


def faithfulness_tables(content: dict[str, Any]) -> list[Table]:
    """Return the tables that there are numbers for.

    Raises InputError where faithfulness.json has another form.
    """
    try:
        return [table for table in _tables(content) if table.rows]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{FOLDER}/faithfulness.json has another form; remove {FOLDER}, and give explain again"
        ) from None


def _tables(content: dict[str, Any]) -> Iterator[Table]:
    entries = {(each["method"], each["check"], each["model"], each["control"]): each
               for each in content.get("checks", [])}  # fmt: skip
    places = dict.fromkeys(key[:2] for key in entries)
    names = {place: f"{NAMES[place[0]]}, {CHECKS[place[1]]}" for place in places
             if place[1] in CHECKS}  # fmt: skip
    sums = {place for place in names
            if (own := entries.get((*place, "run", None))) and own["by_construction"]}  # fmt: skip
    controls = [
        each for each in dict.fromkeys(key[3] for key in entries if key[:2] in names) if each
    ]
    models = [each for each in MODELS if each in {key[2] for key in entries}]

    def found(place: tuple[str, str], keys: Iterable[tuple[str, str | None]]) -> list[Entry | None]:
        return [entries.get((*place, *key)) for key in keys]

    yield Table(
        ["Area less that of", *(NAMES[each] for each in controls)],
        [(name + " *" * (place in sums), *found(place, [("run", each) for each in controls]))
         for place, name in names.items()], OF_CONTROLS,
    )  # fmt: skip
    yield Table(
        ["Area", *(NAMES[each] for each in models)],
        [(name, *found(place, [(each, None) for each in models])) for place, name in names.items()],
        OF_MODELS,
    )
    yield Table(
        ["Evidence", "share", *(f"less {NAMES[each]}" for each in REGION_CONTROLS)],
        [(f"{NAMES[method]}, in the {check.removeprefix(REGION)}",
          *found((method, check), [("run", each) for each in (None, *REGION_CONTROLS)]))
         for method, check in places if check.startswith(REGION)], OF_REGIONS,
    )  # fmt: skip
    last = {each["method"]: each for each in content.get("randomisation", [])}
    ceiling = content.get("ceiling", {})
    yield Table(
        ["Rank correlation with", "the untrained network", "another fold's model"],
        [(NAMES[method], each, ceiling.get(method)) for method, each in last.items()], OF_WEIGHTS,
    )  # fmt: skip
