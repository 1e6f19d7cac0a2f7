"""Keeps the former path of `dynamic_atss.run`. The next release removes this path."""

from dynamic_atss.moved import moved

__getattr__ = moved(__name__, "dynamic_atss.run")
