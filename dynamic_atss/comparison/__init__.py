"""Compares assignment rules. Trains several rules with several seeds, or reads finished runs.

- arguments.py and rules.py read the command line.
- plan.py plans the runs.
- devices.py and running.py train them, one process per device.
- runs.py reads a run's folder.
- groups.py groups runs that differ only in their seeds.
- statistics.py, agreement.py and measures.py compute the numbers.
- ground_truth.py reads the ground truth.
- result.py collects all numbers.
- tables.py, plots.py and report.py write the reports.
- compare.py runs a comparison.
"""
