"""The logs that a run writes beside its output: CSV of each step, CSV of the validations, TensorBoard, a picture."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Sequence

import cv2
import numpy as np

from irvis.runtime.files import replacing
from irvis.runtime.images import write_image

STEPS, VALIDATIONS, PICTURE = ".csv", ".validation.csv", ".jpg"


def beside(output: Path, ending: str) -> Path:
    """Return the path of a file beside a run's output: the output's name with ``ending`` appended."""
    return Path(f"{output}{ending}")  # not with_name, which fails for "": the check of the output itself says more


class Table:
    """A CSV that grows: rows are appended, and a resumed run first drops those of the steps that it will repeat."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self._names: Sequence[str] = ()
        self._kept = self._rows_until(step)

    def add(self, rows: Sequence[Dict[str, Any]]) -> None:
        """Append rows that all have the keys of the first one ever added, ``step`` among them."""
        if not rows:
            return
        if not self._names:
            self._names = list(rows[0])
            rows = [*self._kept, *rows]
            with replacing(self.path) as temporary, temporary.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, self._names, extrasaction="ignore")  # columns of another version
                writer.writeheader()
                writer.writerows(rows)
            return
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self._names).writerows(rows)

    def _rows_until(self, step: int) -> List[Dict[str, str]]:
        if not step or not self.path.exists():
            return []
        # A line cut short by a kill lacks its last values; a power cut can leave zeros or anything else in its place.
        with self.path.open(newline="", errors="replace") as stream:
            lines = csv.DictReader(line.replace("\0", "") for line in stream)
            rows = [row for row in lines if None not in row.values() and None not in row]
        return [row for row in rows if (row.get("step") or "").isdecimal() and int(row["step"]) <= step]


class RunLog:
    """The logs of the run that writes ``output``, from ``step`` on; a context manager."""

    def __init__(self, output: Path, step: int, tensorboard: bool = True) -> None:
        self.steps = Table(beside(output, STEPS), step)
        self.validations = Table(beside(output, VALIDATIONS), step)
        self.picture = beside(output, PICTURE)
        if not step:  # left by an earlier run, whose losses are overwritten
            for path in (self.validations.path, self.picture):
                path.unlink(missing_ok=True)
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return  # an extra of the workstation; the CSV has the same figures
            self._board = SummaryWriter(str(beside(output, ".tensorboard")), purge_step=step + 1)

    def add_steps(self, rows: Sequence[Dict[str, float]]) -> None:
        """Log the losses of finished steps."""
        self.steps.add(rows)
        if self._board is not None:
            for row in rows:
                for name, value in row.items():
                    if name != "step":
                        self._board.add_scalar(f"train/{name}", value, int(row["step"]))

    def add_validation(self, step: int, metrics: Dict[str, float], picture: np.ndarray) -> None:
        """Log the metrics and the picture, BGR (H, W, 3), at ``step``; only the last picture is kept as a file."""
        self.validations.add([{"step": step, **metrics}])
        write_image(self.picture, picture)
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(f"validation/{name}", value, step)
            self._board.add_image("validation", cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), step, dataformats="HWC")

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()
