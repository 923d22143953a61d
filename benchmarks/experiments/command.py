"""The paper's experiments, one command each: ``irvis experiment NAME ...``.

If irvis is on the path but not installed: ``python -m irvis.benchmarks.experiments.command NAME ...``.
"""

import argparse
import sys

from irvis.benchmarks.experiments import ablation, compensation, complexity_tables, detection, quality
from irvis.benchmarks.experiments.subcommands import add_modules
from irvis.runtime.cli import guarded

EXPERIMENTS = {
    "quality": (quality, "Tables 1 and 2: every method on every data set"),
    "ablation": (ablation, "Table 3: the method without each of its parts, trained alike"),
    "complexity": (complexity_tables, "Tables 4 and 5: time, multiply-adds and parameters"),
    "detection": (detection, "Table 6 and figure 10: a detector on each method's fused images"),
    "compensation": (compensation, "section 4.6 and figure 9: what students add to their teachers"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis experiment``."""
    add_modules(parser, EXPERIMENTS)


def main(arguments: argparse.Namespace) -> int:
    """Run the chosen experiment."""
    return int(arguments.run(arguments))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="irvis experiment", description="the paper's experiments")
    add_arguments(parser)
    parsed = parser.parse_args()
    sys.exit(guarded("irvis experiment", lambda: main(parsed)))
