"""Rules compared: several rules x seeds are trained alike, or finished runs are read, and told side
by side.

words.py, rules.py: the command line · plan.py: the runs of a comparison · devices.py, running.py:
trains them, one process a device · runs.py: what a run's folder says · groups.py: which runs belong
together · statistics.py, agreement.py, measures.py: the numbers · truths.py: what was to be found ·
result.py: all numbers · tables.py, plots.py, report.py: how they are shown · whole.py: from
arguments to numbers
"""
