import time

from irvis.benchmarks.turns import ratio, take_turns


def test_each_form_runs_once_a_round_in_a_changing_order():
    ran, ticks = [], []
    runs = {name: lambda name=name: ran.append(name) for name in "abc"}
    latencies = take_turns(runs, 20, lambda: ticks.append(1))
    assert {name: len(values) for name, values in latencies.items()} == dict.fromkeys("abc", 20)
    rounds = [tuple(ran[start : start + 3]) for start in range(0, len(ran), 3)]
    assert len(rounds) == 21  # the first warms up
    assert all(sorted(order) == list("abc") for order in rounds)
    assert len(set(rounds)) == 6  # every order comes
    assert len(ticks) == len(ran)
    again = []
    take_turns({name: lambda name=name: again.append(name) for name in "abc"}, 20)
    assert again == ran  # seeded


def test_times_are_in_milliseconds():
    latencies = take_turns({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, 3)
    assert all(20 <= value < 200 for value in latencies["slow"])
    assert all(value < 20 for value in latencies["fast"])


def test_ratios_are_taken_within_a_round():
    """The machine was ten times as slow in two rounds: the ratio of two medians would be 20, or less than 1."""
    reference, form = [2.0, 20.0, 4.0, 40.0, 3.0], [1.0, 10.0, 2.0, 10.0, 1.0]
    assert ratio(reference, form) == (2.0, 2.0, 3.0)
    assert str(ratio(reference, form)) == "2.00 (2.00 to 3.00)"
