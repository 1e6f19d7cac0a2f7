"""Holds the rules, one file each. `dynamic_atss.assigners.ASSIGNERS` lists them by name."""
