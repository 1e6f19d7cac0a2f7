"""Compares assignment rules, as `dynamic-atss compare` does. --help has examples.

python tools/compare.py --config-file X.yaml --rules atss dynamic_atss --seeds 0 1 2 --output DIR
python tools/compare.py RUN RUN ... --output DIR
"""

from dynamic_atss import cli
from dynamic_atss.commands.compare import main

if __name__ == "__main__":
    cli.run(main)
