"""The paper's pictures: ``irvis visualize features ...`` (figures 8, 9) and ``irvis visualize grid ...`` (4 to 7)."""

import argparse

from irvis.benchmarks.experiments import features, grids
from irvis.benchmarks.experiments.subcommands import add_modules

PICTURES = {
    "features": (features, "figures 8 and 9: heat maps of distilled features, teachers above students"),
    "grid": (grids, "figures 4 to 7: each method's fusion of a pair, with two magnified boxes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis visualize``."""
    add_modules(parser, PICTURES)


def main(arguments: argparse.Namespace) -> int:
    """Draw the chosen picture."""
    return int(arguments.run(arguments))
