"""The rows of a benchmark set's bags, as the store that a model's bags come from."""

from hashlib import sha256
from pathlib import Path

from lymphoml.data.images import Images
from lymphoml.data.mil_table import read_bags
from lymphoml.data.rows import RowStore


def read_bag_rows(path: Path, images: Images) -> tuple[RowStore, str]:
    """The rows of these bags, and a digest of them."""
    rows = read_bags(path).rows
    kept = {bag: rows[bag] for bag in images}
    whole = sha256()
    for bag, values in kept.items():
        whole.update(f"{bag}\x1f{values.shape}\x1f".encode() + values.tobytes())
    width = next(iter(rows.values())).shape[1]
    return RowStore(kept, [f"f{number}" for number in range(1, width + 1)]), whole.hexdigest()
