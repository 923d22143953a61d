"""Quality as tables: one per data set beside the published figures, one of students against teachers, and CSV."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.experiments.methods import Method
from irvis.benchmarks.metrics import left_out, means_of
from irvis.benchmarks.published import METRICS, NOT_COMPARABLE, PAIRS, QUALITY, published_set
from irvis.benchmarks.ranked_tables import DIGITS, Cell, RankedTable, ranks, write_tables
from irvis.benchmarks.tables import BASELINE, FOOTNOTE, MARK, MODEL, PUBLISHED, Quality, Row, to_csv
from irvis.runtime.files import write_text
from irvis.runtime.pairs import Pair

MEAN = "mean of the inputs"
ALL = "all"
SMOKE = "A smoke run, whose figures mean nothing."


class Measured(NamedTuple):
    """The measurements on one data set."""

    name: str
    folder: Path
    pairs: Sequence[Pair]
    held: int  # pairs in the folder
    side: Optional[int]  # of the corner of each image that was measured; None: whole images
    figures: Dict[str, List[Dict[str, float]]]  # method -> its metrics, pair by pair
    left_out: Dict[str, str]  # method -> why it has none


class Versus(NamedTuple):
    """A student compared with one of its teachers on the same pairs."""

    student: str
    teacher: str
    data_set: str
    pairs: int
    differences: Dict[str, float]  # metric -> mean of the student's minus the teacher's
    better: Dict[str, int]  # metric -> number of pairs on which the student's is greater


def write_quality(folder: Path, methods: Sequence[Method], measured: Sequence[Measured]) -> List[Path]:
    """Write quality-DATASET.md/.csv/.tex/.json for each, quality-students.* and quality-pairs.csv. Raises FileError."""
    files = []
    for found in measured:
        slug = f"quality-{found.name.replace('/', '-')}"
        files += write_tables(folder, slug, table_of(methods, found), csv_of(methods, found))
    rows = versus(methods, measured)
    if rows:
        files += write_tables(folder, "quality-students", students_table(rows, measured), students_csv(rows))
    write_text(folder / "quality-pairs.csv", pairs_csv(methods, measured))
    return [*files, folder / "quality-pairs.csv"]


def means_of_methods(found: Measured) -> Dict[str, Dict[str, float]]:
    """Return each method's metrics, as ``means_of`` does."""
    return {name: means_of(rows) for name, rows in found.figures.items()}


def table_of(methods: Sequence[Method], found: Measured) -> RankedTable:
    """Return one row per method, measured or published, and one for the mean of the inputs, which is not ranked."""
    means, published = means_of_methods(found), _published(found)
    names = [method.name for method in methods]
    columns = {metric: dict(zip(names, _ranks(means, names, metric))) for metric in METRICS}
    theirs = {metric: dict(zip(published, _ranks(published, list(published), metric))) for metric in METRICS}
    teachers = {method.name: [name for name in method.teachers if name in means] for method in methods}
    rows = []
    for name in [*names, *(name for name in published if name not in names), MEAN]:
        cells = [Cell(name)]
        for metric in METRICS:
            text = ""
            if name in means:
                text = f"{means[name][metric]:.{DIGITS}f}"
                if teachers.get(name):
                    best = max(means[teacher][metric] for teacher in teachers[name])
                    text += f" ({means[name][metric] - best:+.{DIGITS}f})"
            cells.append(Cell(text, columns[metric].get(name, 0)))
        if published:
            row = published.get(name, {})
            cells += [
                Cell(f"{row[metric]:.{DIGITS}f}" if row else "", theirs[metric].get(name, 0)) for metric in METRICS
            ]
        rows.append(cells)
    head = [f"{metric}, {PUBLISHED}{MARK if metric == NOT_COMPARABLE else ''}" for metric in METRICS if published]
    title = f"Tables 1 and 2: fusion quality on {found.name}"
    return RankedTable(title, ["method", *METRICS, *head], rows, describe(methods, found))


def describe(methods: Sequence[Method], found: Measured) -> str:
    """Return a table's note: what was measured, and what the figures can be compared with."""
    sentences = [
        f"Measured on luminance: means over {_counted(found)}. The best is bold and the second best underlined, "
        f"separately for measured and published figures; the {MEAN} is not ranked."
    ]
    sentences += [SMOKE] if found.side else []
    published = published_set(found.folder)
    if published is not None:
        others = ", not the pairs measured here" if PAIRS[published] != len(found.pairs) or found.side else ""
        sentences.append(f"Published: means over the {PAIRS[published]} pairs of {published}{others}. {FOOTNOTE}.")
    for method in methods:
        at_hand = [name for name in method.teachers if name in found.figures]
        if at_hand and method.name in found.figures:
            best = f"the best of its teachers {', '.join(at_hand)}, metric by metric" if at_hand[1:] else at_hand[0]
            sentences.append(f"In brackets: {method.name} minus {best}.")
    for name, rows in found.figures.items():
        told = left_out([pair.name for pair in found.pairs], rows)
        if told:
            sentences.append(f"Not finite, and left out of the means of {name}: {told}.")
    waiting = [name for name in (method.name for method in methods) if name not in {**found.figures, **found.left_out}]
    if waiting:
        sentences.append(f"Not measured yet: {', '.join(waiting)}.")
    sentences += [f"Could not be run: {name} ({why})." for name, why in found.left_out.items()]
    return " ".join(sentences)


def csv_of(methods: Sequence[Method], found: Measured) -> str:
    """Return the unrounded means in the form of ``irvis evaluate --csv``; published ones have their number of pairs."""
    means, name = means_of_methods(found), published_set(found.folder)
    rows = [Row(method.name, MODEL, means[method.name]) for method in methods if method.name in means]
    results = [Quality(found.name, len(found.pairs), [*rows, Row(MEAN, BASELINE, means[MEAN])])]
    if name is not None:
        published = [Row(method, PUBLISHED, values) for method, values in QUALITY[name].items()]
        results.append(Quality(found.name, PAIRS[name], published))
    return to_csv(results)


def pairs_csv(methods: Sequence[Method], measured: Sequence[Measured]) -> str:
    """Return every pair's metrics, so that a difference can be tested for its significance."""
    head = ["data_set", "pair", "method", *METRICS]
    names = [*(method.name for method in methods), MEAN]
    return csv_text(
        head,
        [
            [found.name, pair.name, name, *(row[metric] for metric in METRICS)]
            for found in measured
            for name in names
            for pair, row in zip(found.pairs, found.figures.get(name, ()))
        ],
    )


def versus(methods: Sequence[Method], measured: Sequence[Measured]) -> List[Versus]:
    """Compare each student with each of its teachers on each data set, and on all pairs if there are several sets."""
    rows = []
    for student in methods:
        for teacher in student.teachers:
            pairs: List[Tuple[Dict[str, float], Dict[str, float]]] = []
            sets = [found for found in measured if {student.name, teacher} <= set(found.figures)]
            for found in sets:
                own = list(zip(found.figures[student.name], found.figures[teacher]))
                rows.append(_versus(student.name, teacher, found.name, own))
                pairs += own
            if len(sets) > 1:
                rows.append(_versus(student.name, teacher, ALL, pairs))
    return rows


def students_table(rows: Sequence[Versus], measured: Sequence[Measured]) -> RankedTable:
    """Return the mean differences, and the number of pairs on which the student is better."""
    cells = [
        [
            *map(Cell, row[:3]),
            *(Cell(f"{row.differences[m]:+.{DIGITS}f}, {row.better[m]} of {row.pairs}") for m in METRICS),
        ]
        for row in rows
    ]
    smoke = f" {SMOKE}" if any(found.side for found in measured) else ""
    note = (
        "Mean of the student's figure minus the teacher's, and the number of pairs on which the student's is greater. "
        f"Measured on {'; '.join(map(_counted, measured))}.{smoke}"
    )
    return RankedTable("Students against their teachers", ["student", "teacher", "data set", *METRICS], cells, note, 3)


def students_csv(rows: Sequence[Versus]) -> str:
    """Return the same figures unrounded."""
    head = [f"{metric}_{kind}" for metric in METRICS for kind in ("difference", "better")]
    return csv_text(
        ["student", "teacher", "data_set", "pairs", *head],
        [[*row[:4], *(part for m in METRICS for part in (row.differences[m], row.better[m]))] for row in rows],
    )


def _versus(
    student: str, teacher: str, data_set: str, pairs: Sequence[Tuple[Dict[str, float], Dict[str, float]]]
) -> Versus:
    return Versus(
        student,
        teacher,
        data_set,
        len(pairs),
        means_of([{metric: own[metric] - other[metric] for metric in METRICS} for own, other in pairs]),
        {metric: sum(own[metric] > other[metric] for own, other in pairs) for metric in METRICS},
    )


def _published(found: Measured) -> Dict[str, Dict[str, float]]:
    name = published_set(found.folder)
    return QUALITY[name] if name is not None else {}


def _ranks(means: Dict[str, Dict[str, float]], names: Sequence[str], metric: str) -> List[int]:
    return ranks([means[name][metric] if name in means else float("nan") for name in names])


def _counted(found: Measured) -> str:
    count = len(found.pairs)
    share = f"{count} of the {found.held} pairs" if count < found.held else f"{count} pair{'s' if count > 1 else ''}"
    spread = ", evenly spread" if count < found.held else ""
    return f"{share} of {found.name}{spread}{f', cut to {found.side}x{found.side}' if found.side else ''}"
