import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.augment import SYMMETRIES, augment, codes_of, dihedral
from irvis.student.losses import attention_map, similarity_samples, sobel_magnitude

CODES = range(SYMMETRIES)


def random_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_code_is_what_numpy_turns_and_mirrors():
    image = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    for code in CODES:
        wanted = np.rot90(image, code % 4, (-2, -1))
        wanted = wanted[..., ::-1] if code >= 4 else wanted
        np.testing.assert_array_equal(dihedral(torch.from_numpy(image), code).numpy(), wanted)


def test_the_codes_are_8_and_turn_a_corner_as_on_paper():
    """Rows from top to bottom; code 1 turns against the clock, 4 mirrors left to right."""
    square = torch.tensor([[1, 2], [3, 4]])
    assert [dihedral(square, code).flatten().tolist() for code in CODES] == [
        [1, 2, 3, 4],
        [2, 4, 1, 3],
        [4, 3, 2, 1],
        [3, 1, 4, 2],
        [2, 1, 4, 3],
        [4, 2, 3, 1],
        [3, 4, 1, 2],
        [1, 3, 2, 4],
    ]


def test_the_8_are_distinct_and_form_the_dihedral_group():
    image = torch.arange(9).reshape(3, 3)
    results = [tuple(dihedral(image, code).flatten().tolist()) for code in CODES]
    assert len(set(results)) == SYMMETRIES
    product = {
        (first, second): results.index(tuple(dihedral(dihedral(image, first), second).flatten().tolist()))
        for first, second in itertools.product(CODES, CODES)
    }  # closed, since index finds each
    for code in CODES:
        assert product[0, code] == product[code, 0] == code
        assert [product[code, other] for other in CODES].count(0) == 1  # one inverse
    assert any(product[a, b] != product[b, a] for a, b in product)  # D4 is not abelian
    orders = []
    for code in CODES:
        power, order = code, 1
        while power:
            power, order = product[power, code], order + 1
        orders.append(order)
    assert sorted(orders) == [1, 2, 2, 2, 2, 2, 4, 4]  # which, of the five groups of order 8, is D4's alone


@pytest.mark.parametrize("taken", [attention_map, sobel_magnitude, similarity_samples])
@pytest.mark.parametrize("side", [16, 32, 50])
def test_the_symmetries_commute_with_what_the_losses_take(taken, side):
    images = random_images(2, 1 if taken is sobel_magnitude else 5, side, side)
    for code in CODES:
        turned = dihedral(taken(images), code)
        torch.testing.assert_close(taken(dihedral(images, code)), turned, rtol=0, atol=1e-12)
        if code:
            assert not torch.allclose(turned, taken(images), atol=1e-3)


def test_each_row_of_every_tensor_gets_its_own_code():
    tensors = [random_images(8, 1, 12, 12), random_images(8, 3, 5, 5), random_images(8, 2, 6, 6).mul(255).byte()]
    codes = [3, 0, 7, 4, 1, 6, 5, 2]
    turned = augment(tensors, torch.tensor(codes))
    for before, after in zip(tensors, turned):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        for row, code in enumerate(codes):
            assert torch.equal(after[row], dihedral(before[row], code))


def test_augmenting_leaves_its_input_alone_and_passes_gradients():
    image = random_images(2, 1, 4, 4).requires_grad_()
    before = image.detach().clone()
    (turned,) = augment([image], torch.tensor([0, 5]))
    turned.detach().zero_()
    assert torch.equal(image.detach(), before)
    weight = random_images(2, 1, 4, 4, seed=1)
    (augment([image], torch.tensor([0, 5]))[0] * weight).sum().backward()
    assert torch.equal(image.grad[0], weight[0])
    assert torch.equal(dihedral(image.grad[1], 5), weight[1])


@pytest.mark.parametrize("code", [-1, 8])
def test_a_code_that_is_none_is_refused(code):
    with pytest.raises(ValueError, match=f"code must be 0 to 7. Got {code}"):
        dihedral(torch.zeros(2, 2), code)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (3, 1, 4, 4), (2, 4, 4)], ids=["not square", "rows", "axes"])
def test_tensors_that_do_not_fit_the_codes_are_refused_with_their_shape(shape):
    with pytest.raises(ValueError, match=r"must be \(2, C, s, s\), one row per code\. Got \(" + str(shape)[1:-1]):
        augment([torch.zeros(2, 1, 4, 4), torch.zeros(shape)], torch.tensor([0, 1]))


def test_codes_depend_on_seed_and_step_alone_and_are_all_drawn_alike():
    assert torch.equal(codes_of(0, 5, 4), codes_of(0, 9, 4)[:5])
    assert not torch.equal(codes_of(0, 2, 64)[0], codes_of(0, 2, 64)[1])
    assert not torch.equal(codes_of(0, 5, 64), codes_of(1, 5, 64))
    drawn = codes_of(3, 1000, 4)
    assert (drawn.shape, drawn.dtype) == ((1000, 4), torch.int64)
    counts = np.bincount(drawn.flatten().numpy(), minlength=8)
    assert len(counts) == 8
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # chi-squared, 7 degrees of freedom, p = 0.001
