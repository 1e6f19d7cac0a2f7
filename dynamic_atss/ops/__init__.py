"""Operators: NMS, focal losses and the search for candidates, native where they are compiled."""

from dynamic_atss.ops.library import load

load()
