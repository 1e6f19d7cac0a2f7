"""Training of dense object detectors in which label assignment is a small, swappable rule."""

__version__ = "0.1.0"
