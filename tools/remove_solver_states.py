"""Writes a checkpoint without the solver's state, as the published script of this name does.

python tools/remove_solver_states.py model_final.pth
"""

from pathlib import Path

from dynamic_atss import cli

SUFFIX = "_wo_solver_states"
DESCRIPTION = """Write MODEL without optimizer, averages and training state to
<MODEL>_wo_solver_states.pth, in the same format. tools/convert_checkpoint.py has more choices."""


def main() -> int:
    parser = cli.Parser(description=DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="checkpoint of a detector")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    args = parser.parse_args()

    from dynamic_atss.weights import convert_file
    from dynamic_atss.weights.convert import detector_format

    src = Path(args.model).expanduser()
    dst = src.with_name(src.stem + SUFFIX + src.suffix)
    to = detector_format(src)
    print(convert_file(src, dst, to, strip=True, overwrite=args.overwrite).summary())
    print(f"Done. The model without solver states is saved to {dst}")
    return 0


if __name__ == "__main__":
    cli.run(main)
