"""Tables 4 and 5: ``irvis experiment complexity --report peers.json --report bench.json -o complexity``.

The time per frame from the reports, multiply-adds and parameters as counted here, and the published figures for all
three, at 480x640. With ``--quick`` it also times the student on a few frames.
"""

import argparse
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Sequence

from irvis.benchmarks import complexity
from irvis.benchmarks.complexity import NOTES, TEN_TIMES, Cost
from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.experiments.timings import Timings, read_timings
from irvis.benchmarks.fusers import split_name
from irvis.benchmarks.peers import command as peers
from irvis.benchmarks.published import COMPLEXITY, PublishedCost
from irvis.benchmarks.ranked_tables import DIGITS, Cell, RankedTable, check_quick, ranks, table_files, write_tables
from irvis.runtime.files import check_outputs
from irvis.runtime.sizes import DEFAULT_SIZE

NAME = "complexity"
MEASURED_DIGITS = 2  # after the point, of times
QUICK = ("--runtime", "onnxruntime", "--rounds", "2")
QUICK_REPORT = "peers-quick.json"
WHAT_TO_RUN = (
    "No time was measured: run irvis peers --json FILE, or bench.py --json FILE on the robot; pass it with --report."
)


class Column(NamedTuple):
    """One quantity by method; lower is better."""

    title: str
    values: Mapping[str, float]
    stds: Mapping[str, float]  # none for a counted quantity, or for one sample
    digits: int = DIGITS
    tenths: Sequence[str] = ()  # methods for which the paper prints a tenth, which are not ranked

    def cells(self) -> Dict[str, Cell]:
        """Return the cells by method."""
        ranked = {name: -value for name, value in self.values.items() if name not in self.tenths}
        places = dict(zip(ranked, ranks([*ranked.values()], self.digits)))
        found = {}
        for name, value in self.values.items():
            text = f"{value:.{self.digits}f}{TEN_TIMES if name in self.tenths else ''}"
            text += f" ± {self.stds[name]:.{self.digits}f}" if name in self.stds else ""
            found[name] = Cell(text, places.get(name, 0))
        return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis experiment complexity``."""
    parser.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="report of irvis peers --json or bench.py --json at 480x640; NAME is the network that bench.py ran "
        "(default: the student's deploy form); may be repeated",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path(NAME), help="folder (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="also time a few frames of the student here")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis experiment complexity``."""
    written = [*table_files(arguments.output, NAME), arguments.output / QUICK_REPORT]
    check_outputs(written, [split_name(spec)[1] for spec in arguments.report])
    timings = [column for spec in arguments.report for column in read_timings(spec)]
    if arguments.quick:
        check_quick(written[:1])
        parser = argparse.ArgumentParser()
        peers.add_arguments(parser)
        report = str(arguments.output / QUICK_REPORT)
        peers.main(parser.parse_args([*QUICK, "--json", report]))
        timings += read_timings(report)
    costs = complexity.count_all(DEFAULT_SIZE)
    found = table_of(costs, timings, arguments.quick)
    for file in write_tables(arguments.output, NAME, found, to_csv(costs, timings)):
        print(f"wrote {file}")
    return 0


def table_of(costs: Sequence[Cost], timings: Sequence[Timings], quick: bool = False) -> RankedTable:
    """Return one row per method, the cheapest first; those that are only published or timed come last."""
    columns = columns_of(costs, timings)
    cells = [column.cells() for column in columns]
    rows = [[Cell(name), *(column.get(name, Cell("")) for column in cells)] for name in names_of(costs, timings)]
    head = ["method", *(column.title for column in columns)]
    return RankedTable("Tables 4 and 5: time and complexity", head, rows, describe(timings, quick))


def columns_of(costs: Sequence[Cost], timings: Sequence[Timings]) -> List[Column]:
    """Return the columns: times, published and measured, then multiply-adds and parameters, counted and published."""
    paper = COMPLEXITY.items()
    tenths = [cost.name for cost in costs if complexity.is_tenth(cost)]
    return [
        Column(
            "ms, RTX 3080 Ti, published",
            {name: row.rtx_3080_ti_ms for name, row in paper},
            {name: row.rtx_3080_ti_std_ms for name, row in paper},
        ),
        Column(
            "ms, Xavier in MAXN, published",
            {name: row.xavier_maxn_ms for name, row in paper},
            {name: row.xavier_maxn_std_ms for name, row in paper},
        ),
        *(
            Column(
                f"ms, {found.title} [{number}]",
                {name: average for name, (average, _) in found.times_ms.items()},
                {name: deviation for name, (_, deviation) in found.times_ms.items() if deviation is not None},
                MEASURED_DIGITS,
            )
            for number, found in enumerate(timings, 1)
        ),
        Column("multiply-adds, G", {cost.name: cost.thop_macs / 1e9 for cost in costs}, {}),
        Column("published, G", {name: row.gmacs for name, row in paper}, {}, tenths=tenths),
        Column("parameters, M", {cost.name: cost.thop_parameters / 1e6 for cost in costs}, {}),
        Column("published, M", {name: row.mparams for name, row in paper}, {}, tenths=tenths),
    ]


def names_of(costs: Sequence[Cost], timings: Sequence[Timings]) -> List[str]:
    """Return the methods: the counted ones, then those that are only published or timed."""
    timed = [name for found in timings for name in found.times_ms]
    return list(dict.fromkeys([*(cost.name for cost in costs), *COMPLEXITY, *timed]))


def describe(timings: Sequence[Timings], quick: bool = False) -> str:
    """Return the table's note: what the columns are."""
    sentences = [
        "Frames of 480x640, mean ± standard deviation; the lowest of a column is bold, the second lowest underlined.",
        *(f"[{number}] {found.remarks}." for number, found in enumerate(timings, 1)),
        *([] if timings else [WHAT_TO_RUN]),
        *(["A smoke run: the time of a few frames of the student, which means nothing."] if quick else []),
        f"Multiply-adds and parameters are counted by thop, as in the paper. {TEN_TIMES} printed as a tenth of that; "
        f"not ranked. {NOTES[-1]}",
    ]
    return " ".join(sentences)


def to_csv(costs: Sequence[Cost], timings: Sequence[Timings]) -> str:
    """Return every figure unrounded, the published ones as printed."""
    by_name = {cost.name: cost for cost in costs}
    measured = [f"{found.title} [{n}]_{kind}_ms" for n, found in enumerate(timings, 1) for kind in ("mean", "std")]
    published = [f"published_{field}" for field in PublishedCost._fields]
    rows = []
    for name in names_of(costs, timings):
        counts = by_name[name][1:] if name in by_name else [""] * len(Cost._fields[1:])
        times: List[object] = []
        for found in timings:
            times += found.times_ms.get(name, ("", ""))
        rows.append([name, *counts, *COMPLEXITY.get(name, [""] * len(published)), *times])
    return csv_text(["method", *Cost._fields[1:], *published, *measured], rows)
