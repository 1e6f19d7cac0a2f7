"""Shows which priors learn which box, as `dynamic-atss inspect` does.

python tools/inspect_assignment.py --weights output/mine --rules dynamic_atss atss simota
"""

from dynamic_atss import cli
from dynamic_atss.commands.inspect import main

if __name__ == "__main__":
    cli.run(main)
