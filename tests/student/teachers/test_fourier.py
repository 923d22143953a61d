import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.student.teachers.fiscnet import join_phases
from irvis.student.teachers.fourier import Spectrum, invert, transform
from irvis.student.teachers.sfdfusion import from_polar, to_polar
from irvis.student.teachers.ship import convolve_circularly

sizes = st.integers(2, 24)


def planes(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20)
@given(height=sizes, width=sizes)
def test_there_and_back_are_pytorchs_own(height, width):
    x = planes(2, 3, height, width, seed=31 * height + width)
    wanted = torch.fft.rfft2(x)
    found = transform(x)
    assert (found.real - wanted.real).abs().max() < 1e-4
    assert (found.imaginary - wanted.imag).abs().max() < 1e-4
    assert (invert(found, width) - x).abs().max() < 1e-5
    noise = Spectrum(*planes(2, 2, 3, height, width // 2 + 1))  # not of any plane: what has no counterpart is dropped
    wanted = torch.fft.irfft2(torch.complex(*noise), s=(height, width))
    assert (invert(noise, width) - wanted).abs().max() < 1e-5


def test_what_is_real_has_no_imaginary_part_at_all():
    spectrum = transform(planes(1, 1, 24, 30))
    for row in (0, 12):
        for column in (0, 15):
            assert spectrum.imaginary[0, 0, row, column] == 0


def test_amplitude_phase_and_direction_are_those_of_complex_numbers():
    real, imaginary = torch.tensor([[1.0, -2, 0, 0, -3, 0, 2], [1, 2, 3, -4, 0, 0, -2]])
    number = torch.complex(real, imaginary)
    found = Spectrum(real, imaginary)
    assert (found.amplitude - number.abs()).abs().max() < 1e-6
    assert (found.phase - number.angle()).abs().max() < 1e-6
    wanted = torch.polar(torch.ones(7), number.angle())
    assert (torch.complex(*found.direction) - wanted).abs().max() < 1e-6


class Called(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def there_and_back(x, y):
    """SFDFusion's way, with one plane's amplitude and the other's phase."""
    return from_polar(to_polar(x)[0], to_polar(y)[1])


@pytest.mark.filterwarnings("ignore")  # of the exporter's age, and of sizes that tracing fixes
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("function", "count"), [(convolve_circularly, 2), (join_phases, 3), (there_and_back, 2)])
def test_the_exported_graph_gives_what_pytorch_gives(function, count, flat, tmp_path):
    """A flat plane has coefficients of 0 all over, whose phase is 0."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from irvis.export.to_onnx import LEGACY

    inputs = tuple(planes(1, 2, 16, 22, seed=seed) for seed in range(count))
    if flat:
        inputs = (*inputs[:-1], torch.zeros_like(inputs[-1]))
    names = [f"input{index}" for index in range(count)]
    path = tmp_path / "graph.onnx"
    torch.onnx.export(Called(function), inputs, path, opset_version=13, input_names=names, **LEGACY)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: plane.numpy() for name, plane in zip(names, inputs)})
    wanted = function(*inputs).numpy()
    assert np.abs(found - wanted).max() < 1e-5 * max(1.0, np.abs(wanted).max())
