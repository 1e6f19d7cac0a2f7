"""The rules, one file each. `dynamic_atss.assigners.ASSIGNERS` has them by name."""
