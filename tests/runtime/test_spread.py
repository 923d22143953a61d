import pytest

from irvis.runtime.spread import spread_by_parts, spread_end_to_end


def test_the_first_of_each_part_is_chosen():
    assert spread_by_parts(range(10), 3) == [0, 3, 6]
    assert spread_by_parts(range(361), 25)[:3] == [0, 14, 28]
    assert spread_by_parts(range(361), 25)[-1] == 346


def test_from_the_first_to_the_last_is_chosen():
    assert spread_end_to_end(range(10), 3) == [0, 4, 9]
    assert spread_end_to_end(range(361), 8) == [0, 51, 103, 154, 206, 257, 309, 360]
    assert spread_end_to_end("abcdef", 2) == ["a", "f"]


@pytest.mark.parametrize("spread", [spread_by_parts, spread_end_to_end])
def test_of_few_all_are_chosen_and_of_one_the_first(spread):
    for count in range(1, 70):
        assert spread(range(count), 25)[0] == 0
        assert len(set(spread(range(count), 25))) == min(count, 25)
        assert spread(range(count), count) == [*range(count)]
    assert spread(range(100), 1) == [0]
