"""Runs a training or a test from its configuration, for tools/train_net.py and test_net.py.

training.py: a training from start to end
start.py: checks, folder, log and lock before the first image
wiring.py: builds the parts of a training from the configuration
records.py: saves, logs and tests during a training
watch.py: draws the assignment of training images
stop_message.py: logs how to continue after a signal
testing.py: a test
reporting.py: pages about the errors of a test
"""

from dynamic_atss.run.reporting import report
from dynamic_atss.run.testing import test
from dynamic_atss.run.training import train

__all__ = ["report", "test", "train"]
