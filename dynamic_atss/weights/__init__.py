"""Finds, reads, converts and loads weight files of many formats."""

from dynamic_atss.weights.classes import class_count, names_of
from dynamic_atss.weights.convert import convert_file
from dynamic_atss.weights.download import weight_file
from dynamic_atss.weights.formats import class_names, from_published, identify, to_published
from dynamic_atss.weights.loading import LoadReport, load_content, load_weights, read_file
from dynamic_atss.weights.pip import lacking_package

__all__ = [
    "LoadReport",
    "class_count",
    "class_names",
    "convert_file",
    "from_published",
    "identify",
    "lacking_package",
    "load_content",
    "load_weights",
    "names_of",
    "read_file",
    "to_published",
    "weight_file",
]
