"""Runs torchrun without its tracebacks, as `dynamic-atss launch` does.

python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml
"""

from dynamic_atss.commands.launch import main

if __name__ == "__main__":
    main()
