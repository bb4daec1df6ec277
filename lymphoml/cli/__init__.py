"""The command line and the configuration: `train.py`, `predict.py` and `python -m lymphoml`."""

from omegaconf import OmegaConf

# They read the environment, or make a value of a text; nothing of ours needs them.
for resolver in ("oc.env", "oc.decode", "oc.create", "oc.deprecated"):
    OmegaConf.clear_resolver(resolver)
