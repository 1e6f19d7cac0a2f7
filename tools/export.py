"""Exports a detector to ONNX or to torch formats, as `dynamic-atss export` does.

python tools/export.py --weights output/demo/run --format onnx --output model.onnx
"""

from dynamic_atss import cli
from dynamic_atss.commands.export import main

if __name__ == "__main__":
    cli.run(main)
