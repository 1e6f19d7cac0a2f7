"""The one place that reads cfg. `dynamic_atss.build` lists what the rest of the code calls."""
