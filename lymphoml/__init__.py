"""Reactive or tumoral lymphocytosis, from a bag of blood-smear cells and a few clinical values."""

__version__ = "0.2.0"
