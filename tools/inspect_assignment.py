"""Show which priors learn which box; the same as `dynamic-atss inspect`.

python tools/inspect_assignment.py --weights output/mine --rules dynamic_atss atss simota
"""

from dynamic_atss import cli
from dynamic_atss.commands.inspect import main

if __name__ == "__main__":
    cli.run(main)
