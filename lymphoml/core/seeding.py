"""Randomness as a function of its keys, never of history: killed and resumed, it draws the same."""

import hashlib

import numpy as np


def keyed_seed(*keys: int | str) -> int:
    """A 63-bit seed that depends on every key and on their order."""
    text = "\x1f".join(map(str, keys)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def keyed_generator(*keys: int | str) -> np.random.Generator:
    return np.random.default_rng(keyed_seed(*keys))
