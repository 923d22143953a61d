import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.restormer import GatedFeedForward, TransformerBlock, attend_channels


def test_attention_is_that_of_the_equation_in_float64():
    random = np.random.RandomState(0)
    qkv, temperature = random.standard_normal((2, 24, 3, 5)), random.uniform(1, 9, 4)
    wanted = np.empty((2, 8, 15))
    for image in range(2):
        q, k, v = qkv[image].reshape(3, 8, 15)
        for head in range(4):
            rows = slice(2 * head, 2 * head + 2)
            cosine = (q[rows] @ k[rows].T) / np.outer(np.linalg.norm(q[rows], axis=1), np.linalg.norm(k[rows], axis=1))
            weights = np.exp(temperature[head] * cosine)
            wanted[image, rows] = weights / weights.sum(axis=1, keepdims=True) @ v[rows]
    found = attend_channels(torch.from_numpy(qkv), torch.from_numpy(temperature)[:, None, None])
    np.testing.assert_allclose(found.numpy(), wanted.reshape(2, 8, 3, 5), rtol=0, atol=1e-13)


def test_block_is_the_students_under_other_names():
    from irvis.student.network import RSTB

    block, student = TransformerBlock(32, heads=4), RSTB(32, heads=4, expansion=2)
    assert len(block.state_dict()) == len(student.state_dict())
    renamed = {".body.": ".", "attn.": "attention.", "qkv_dwconv": "qkv_depthwise", "ffn.": "feed_forward."}
    state = {}
    for key, value in block.state_dict().items():
        for published, ours in {**renamed, "feed_forward.dwconv": "feed_forward.depthwise"}.items():
            key = key.replace(published, ours)
        state[key] = torch.rand_like(value) - 0.3
    student.load_state_dict(state, strict=True)
    block.load_state_dict(dict(zip(block.state_dict(), state.values())))
    x = torch.rand(2, 32, 9, 7)
    with torch.no_grad():
        wanted = student(x)
        assert (block(x) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(("groups", "per_group"), [(None, 1), (8, 2)])
def test_feed_forward_is_depthwise_unless_groups_are_given(groups, per_group):
    assert GatedFeedForward(8, 8, groups).dwconv.weight.shape == (16, per_group, 3, 3)
