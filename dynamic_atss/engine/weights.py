"""Moved to `dynamic_atss.weights`; this path goes with the next release."""

from dynamic_atss.moved import moved

__getattr__ = moved(__name__, "dynamic_atss.weights")
