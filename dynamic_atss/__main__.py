"""Runs a command by `python -m dynamic_atss COMMAND ...`.

torchrun starts it in this way: `torchrun -m dynamic_atss train ...`.
"""

from dynamic_atss.commands import main

if __name__ == "__main__":  # loader workers import this module again
    main()
