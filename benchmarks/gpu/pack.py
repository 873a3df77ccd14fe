"""Make the folder to carry to a GPU machine that nothing can be fetched to, and lay out what comes back; see README.md.

    python benchmarks/gpu/pack.py --call 1       # makes .gpu/1 and the part of the second call
    python benchmarks/gpu/pack.py --call 2       # makes .gpu/2
    python benchmarks/gpu/pack.py --unpack DIR   # DIR is the --out of run.py

``$STKD_DATA`` or ``data`` holds cifar-100-python. The weights in benchmarks/teachers are set aside in ``.gpu`` until
``--unpack``: those that the call reads travel in ``.gpu``.
"""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its names are those of standard modules

from gpu.prepare import ROOT  # noqa: E402


def main() -> None:
    """Read the command line, and pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--call", type=int, choices=(1, 2), help="make the folder of this call")
    todo.add_argument("--unpack", type=Path, metavar="DIR", help="lay out what came back")
    parser.add_argument("--miniature", action="store_true", help="tiny sizes, to try the queue on a CPU")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the project's layout; default: the project")
    parser.add_argument("--wheels", type=Path, help="folder of wheels; default: they are built and downloaded")
    arguments = parser.parse_args()

    from gpu.packing import pack, unpack
    from gpu.places import Places
    from gpu.sizes import MINIATURE, WHOLE
    from stkd_lightning.utilities.errors import InputError

    places, sizes = Places(arguments.root.absolute()), MINIATURE if arguments.miniature else WHOLE
    try:
        if arguments.unpack:
            unpack(arguments.unpack, places)
        else:
            pack(arguments.call, sizes, places, arguments.wheels or places.carried / "wheels")
    except InputError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
