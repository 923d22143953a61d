"""The paper's pictures: ``irvis visualize features ...`` (figures 8, 9) and ``irvis visualize grid ...`` (4 to 7)."""

import argparse

from irvis.benchmarks.experiments import features, grids

# Name -> module with add_arguments(parser) and main(arguments) -> int, and what it is.
PICTURES = {
    "features": (features, "figures 8 and 9: heat maps of distilled features, teachers above students"),
    "grid": (grids, "figures 4 to 7: what each method makes of a pair, with two magnified boxes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``irvis visualize``."""
    pictures = parser.add_subparsers(dest="picture", metavar="NAME", required=True)
    for name, (module, summary) in PICTURES.items():
        module.add_arguments(pictures.add_parser(name, help=summary, description=summary))


def main(arguments: argparse.Namespace) -> int:
    """Draw the picture that was named."""
    module, _ = PICTURES[arguments.picture]
    return module.main(arguments)
