"""A trained irvis student as a teacher, for example of a student with other strides."""

from pathlib import Path

import torch
from torch import Tensor

from irvis.runtime.files import PathLike
from irvis.student.checkpoint import load_student
from irvis.student.teachers.load import Device, checked_output, count_parameters, digest_state
from irvis.student.teachers.network import Output


class StudentTeacher:
    """A Teacher: the student of a checkpoint, whose feature is F_f, the input of its decoder.

    Its name is the file's, without the suffix. Raises whatever load_student raises.
    """

    def __init__(self, path: PathLike, device: Device = "cpu") -> None:
        self.name = Path(path).stem
        self._student = load_student(path).requires_grad_(False).to(device)
        self.digest = digest_state(f"irvis student {self._student.config}", self._student.state_dict())
        self.parameters = count_parameters(self._student)
        self._device = torch.device(device)

    def __call__(self, infrared: Tensor, visible: Tensor) -> Output:
        with torch.no_grad():
            fused, feature = self._student(infrared.to(self._device), visible.to(self._device), return_feature=True)
        return checked_output(self.name, infrared, feature, fused)
