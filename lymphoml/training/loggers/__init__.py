"""Weights & Biases and TensorBoard: follow and compare a job while it trains.

The run folder has every number already, each fold's `history.csv` among them. No tracker gets a
patient's identifier, a path, the machine's name or its user.
"""

from lymphoml.training.loggers.tracker import Tracker

__all__ = ["Tracker"]
