"""Section 4.6 as a table: each teacher, and below it its student with the difference."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.data_sets import counted
from irvis.benchmarks.experiments.ablation import DataSet
from irvis.benchmarks.published import METRICS
from irvis.benchmarks.ranked_tables import DIGITS, Cell, RankedTable, ranks, write_tables

MAPS = ("detail", "infrared", "gradient")
MEASURED = (*METRICS, *MAPS)
COSINE = "cosine"
DEFINITIONS = (
    "For the maps of eq. 1: detail is the share of a map's variance at periods under 16 pixels, the rest being global "
    "structure; infrared and gradient are the absolute Pearson correlations of the map with the infrared and with the "
    "visible's Sobel magnitude; cosine is the similarity of the student's map to its teacher's, 1 - L_att of eq. 2."
)


class Couple(NamedTuple):
    """A teacher and its student."""

    teacher: str
    steps: Optional[int]  # of the student's training; None if its file does not say
    trained_on: str
    of_teacher: Dict[str, float]  # name of MEASURED -> mean over the test set
    of_student: Dict[str, float]  # with COSINE


def write_compensation(folder: Path, couples: Sequence[Couple], test: DataSet) -> List[Path]:
    """Write compensation.md, .csv, .tex and .json; return their paths. Raises FileError."""
    head = ["network", *MEASURED, COSINE]
    title = "Section 4.6: what students add to their teachers"
    found = RankedTable(title, head, cells_of(couples), describe(couples, test))
    return write_tables(folder, "compensation", found, to_csv(couples))


def cells_of(couples: Sequence[Couple]) -> List[List[Cell]]:
    """Return two rows per couple. Only the quality metrics are ranked: for those of maps, more is not better."""
    both = [figures for couple in couples for figures in (couple.of_teacher, couple.of_student)]
    columns = {name: ranks([figures[name] for figures in both]) for name in METRICS}
    rows = []
    for at, couple in enumerate(couples):
        teacher, student = couple.of_teacher, couple.of_student
        upper, lower = [Cell(couple.teacher)], [Cell(f"{couple.teacher}, its student")]
        for name in MEASURED:
            first, second = columns[name][2 * at : 2 * at + 2] if name in columns else (0, 0)
            upper.append(Cell(f"{teacher[name]:.{DIGITS}f}", first))
            difference = student[name] - teacher[name]
            lower.append(Cell(f"{student[name]:.{DIGITS}f} ({difference:+.{DIGITS}f})", second))
        rows += [[*upper, Cell("")], [*lower, Cell(f"{student[COSINE]:.{DIGITS}f}")]]
    return rows


def describe(couples: Sequence[Couple], test: DataSet) -> str:
    """Return the table's note: its setting, how many students exceed their teachers, and the spans of detail."""
    smoke = " A smoke run, whose figures mean nothing." if test.side else ""
    trained = dict.fromkeys(
        f"{couple.steps} steps on crops of {couple.trained_on}" if couple.steps else "unknown" for couple in couples
    )
    above = (
        f"{name} {sum(couple.of_student[name] > couple.of_teacher[name] for couple in couples)}" for name in MEASURED
    )
    spans = (
        f"{min(values):.{DIGITS}f} to {max(values):.{DIGITS}f}"
        for values in zip(*((couple.of_teacher["detail"], couple.of_student["detail"]) for couple in couples))
    )
    sentences = [
        f"Students' training: {'; '.join(trained)} (the paper: 80000 steps).{smoke}",
        f"Means over {counted(len(test.pairs), test.name)}; in brackets: student minus teacher.",
        DEFINITIONS,
        f"Number of students, of {len(couples)}, above their teachers: {', '.join(above)}.",
        "Detail spans {} over the teachers and {} over the students.".format(*spans),
    ]
    return " ".join(sentences)


def to_csv(couples: Sequence[Couple]) -> str:
    """Return every figure unrounded, two rows per couple; a teacher has no cosine."""
    rows = []
    for couple in couples:
        for kind, figures in (("teacher", couple.of_teacher), ("student", couple.of_student)):
            steps = couple.steps if kind == "student" and couple.steps is not None else ""
            rows.append([couple.teacher, kind, steps, *(figures[name] for name in MEASURED), figures.get(COSINE, "")])
    return csv_text(["teacher", "network", "steps", *MEASURED, COSINE], rows)
