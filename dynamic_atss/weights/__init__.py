"""Weights of any format: their names, their safe reading, and their conversion."""

from dynamic_atss.weights.convert import convert_file
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.formats import class_names, from_published, to_published
from dynamic_atss.weights.loading import LoadReport, load_weights, read_file
from dynamic_atss.weights.pip import lacking_package

__all__ = [
    "LoadReport",
    "class_names",
    "convert_file",
    "from_published",
    "lacking_package",
    "load_weights",
    "read_file",
    "to_published",
    "weight_file",
]
