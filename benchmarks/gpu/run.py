"""Do as much of the GPU's queue as fits into a budget of time; see README.md.

    python benchmarks/gpu/run.py --budget 480 --out DIR                        # all stages
    python benchmarks/gpu/run.py --budget 480 --out DIR --only check speed
    python benchmarks/gpu/run.py --budget 300 --out DIR --miniature            # tries the queue on a CPU
    python benchmarks/gpu/run.py --reference                                   # on a CPU: what check compares with

An item whose record in benchmarks/results/gpu/ has no error is not done again.
"""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its names are those of standard modules

from gpu.prepare import ROOT, prepare  # noqa: E402

STAGES = ("check", "speed", "teachers", "evidence")


def main() -> None:
    """Read the command line, make the packages importable, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=480, help="seconds until the command has ended")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "gpu" / "back", help="receives what goes back")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="stages; default: all")
    parser.add_argument("--miniature", action="store_true", help="tiny sizes, to try the queue on a CPU")
    parser.add_argument("--root", type=Path, help="folder of the project's layout; default: the project")
    parser.add_argument("--reference", action="store_true", help="write the reference of the stage check, and end")
    parser.add_argument("--item", help=argparse.SUPPRESS)  # the queue starts a process for each item
    arguments = parser.parse_args()
    prepare((arguments.root or ROOT) / ".gpu")

    from gpu.command import command

    sys.exit(command(arguments))


if __name__ == "__main__":
    main()
