"""A whole run, from a configuration to scores: what tools/train_net.py and test_net.py call.

training.py: the order of things · start.py: before the first image · wiring.py: the parts, from the
configuration · records.py: what is saved, logged and tested · last_words.py: after a signal ·
testing.py: a test alone · reporting.py: pages about the errors of a test
"""

from dynamic_atss.run.reporting import report
from dynamic_atss.run.testing import test
from dynamic_atss.run.training import train

__all__ = ["report", "test", "train"]
