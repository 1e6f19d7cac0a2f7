"""torchrun; a mistake ends with its one line and exit code 2, without the launcher's traceback.

python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml

All arguments are torchrun's. What else fails in a process is reported as by torchrun.
"""

import logging
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

MISTAKE = 2  # the exit code of a process after a mistake, which one of them has told


HELP = """launch.py is torchrun: it starts several processes of a tool, and tells a mistake once.
Example: python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml
The options below are torchrun's. Those of the tool come after its name, its --help too.
"""


def main() -> None:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(HELP, flush=True)  # torchrun goes on
    # Which process it stops and why: ChildFailedError tells the same.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run.main()
    except ChildFailedError as error:
        if MISTAKE not in {failure.exitcode for failure in error.failures.values()}:
            raise
        sys.exit(MISTAKE)
    except SignalException as signal:
        sys.exit(128 + signal.sigval)


if __name__ == "__main__":
    main()
