import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.checkpoint import save_student
from irvis.student.datasets import unit_planes
from irvis.student.heatmaps import attention, detail_share, heat_map, over_image, similarity, span
from irvis.student.network import Student, StudentConfig
from irvis.student.teachers.any_student import StudentTeacher


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 256, (2, 24, 40), np.uint8)


def test_a_student_is_a_network_and_its_map_is_the_signed_mean_over_channels(tmp_path, planes):
    torch.manual_seed(0)
    student = Student(StudentConfig(8, 2, 1, 1)).eval()
    save_student(tmp_path / "student.safetensors", student)
    network = StudentTeacher(tmp_path / "student.safetensors")
    with torch.no_grad():
        fused, feature = student(*unit_planes(*planes), return_feature=True)
    assert all(torch.equal(*both) for both in zip(network(*unit_planes(*planes)), (feature, fused)))
    found = attention(network, *planes)
    torch.testing.assert_close(found, feature.mean(1, keepdim=True))
    assert (found < 0).any()
    assert not found.requires_grad


def test_a_network_that_draws_random_numbers_has_one_map(planes):
    def noisy(infrared, visible):
        return infrared + torch.randn_like(infrared), visible

    assert torch.equal(attention(noisy, *planes), attention(noisy, *planes))


def test_heat_has_a_root_mean_square_of_1_whatever_the_features_unit_and_keeps_its_sign():
    feature = torch.randn(1, 1, 12, 20, generator=torch.manual_seed(0))
    heat = heat_map(feature, (12, 20))
    assert heat.dtype == np.float32
    assert np.sqrt(np.mean(heat**2)) == pytest.approx(1)
    np.testing.assert_allclose(heat_map(1e4 * feature, (12, 20)), heat, rtol=1e-5)
    np.testing.assert_allclose(heat_map(-feature, (12, 20)), -heat)
    assert heat_map(feature, (24, 40)).shape == (24, 40)
    assert not heat_map(torch.zeros(1, 1, 4, 4), (8, 8)).any()
    # Eq. 2 of two maps is the mean of the product of their heat.
    other = torch.randn(1, 1, 12, 20, generator=torch.manual_seed(1))
    assert similarity(feature, other) == pytest.approx(float(np.mean(heat * heat_map(other, (12, 20)))), abs=1e-6)


def test_detail_is_what_has_a_short_period():
    x = np.arange(96) + 0.5
    wave = {period: np.cos(2 * np.pi * x / period) + np.zeros((64, 1)) for period in (12, 16, 24)}
    assert detail_share(wave[12]) == pytest.approx(1)
    assert detail_share(wave[16]) == pytest.approx(0, abs=1e-12)
    assert detail_share(wave[24]) == pytest.approx(0, abs=1e-12)
    assert detail_share(wave[12] + 3 * wave[24] + 100) == pytest.approx(0.1)
    assert detail_share(wave[12].T) == pytest.approx(1)
    assert detail_share(np.ones((16, 16))) == 0


def test_one_hot_pixel_does_not_set_the_scale():
    maps = [np.linspace(0, 1, 1001), np.linspace(-1, 0, 1000)]
    maps[0][0] = 1000
    low, high = span(maps)
    assert (low, high) == pytest.approx((-0.98, 0.98), abs=0.002)


def test_colours_grow_brighter_with_heat_and_let_the_image_through():
    heat, grey = np.tile(np.linspace(-2, 3, 9, dtype=np.float32), (2, 1)), np.zeros((2, 9), np.uint8)
    grey[1] = 255
    colours = over_image(heat, grey, (-1, 2))
    assert (colours.dtype, colours.shape) == (np.uint8, (2, 9, 3))
    levels = colours[0] @ (0.114, 0.587, 0.299)  # BGR
    assert (np.diff(levels[2:7]) > 0).all()
    np.testing.assert_array_equal(colours[:, 0], colours[:, 1])  # what is below the scale has its lowest colour
    np.testing.assert_array_equal(colours[:, 8], colours[:, 7])
    assert colours[0, 4, 2] > colours[0, 4, 0]  # the middle is red, not blue
    assert np.abs(colours[1].astype(int) - colours[0] - 51).max() <= 1  # a fifth of the image
