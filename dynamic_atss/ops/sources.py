"""Whether compiled kernels are those of the sources beside them. Also read by setup.py, so without
imports of the package."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "csrc"
KINDS = (".cpp", ".cu", ".cuh", ".h")
MARK = "dynamic_atss kernels of "


def mark() -> str:
    """What a library that is compiled from the present sources contains."""
    digest = hashlib.sha256()
    for path in sorted(path for path in FOLDER.glob("[!.]*") if path.suffix in KINDS):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return MARK + digest.hexdigest()[:16]
