"""Where a job can be followed and compared while it trains: Weights & Biases and TensorBoard.

The run folder holds every number already, each fold's `history.csv` among them; trackers are for
looking, comparing and sharing. None is told a patient's identifier, a path, the machine or its
user.
"""

from lymphoml.training.loggers.tracker import Tracker

__all__ = ["Tracker"]
