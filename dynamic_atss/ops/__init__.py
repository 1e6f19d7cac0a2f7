"""Provides operators for NMS, focal losses and candidate search, native where compiled."""

from dynamic_atss.ops.library import load

load()
