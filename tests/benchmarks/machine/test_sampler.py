import threading
import time

from irvis.benchmarks.machine.sampler import Sampler


def test_samples_span_what_is_inside():
    with Sampler(lambda: 1.0, 200.0) as sampler:
        begin_s = time.monotonic()
        time.sleep(0.2)
        end_s = time.monotonic()
    stamps_s = [stamp_s for stamp_s, _ in sampler.samples]
    assert stamps_s == sorted(stamps_s)
    assert stamps_s[0] <= begin_s <= end_s <= stamps_s[-1]
    assert 5 < len(stamps_s) <= 60
    assert not any(thread.name == "irvis-sampler" for thread in threading.enumerate())


def test_a_reading_is_stamped_with_its_middle():
    ticks = iter([10.0, 10.4])
    sampler = Sampler(lambda: 7, 1.0, lambda: next(ticks))
    sampler.sample()
    assert sampler.samples == [(10.2, 7)]


def test_a_sensor_that_is_busy_is_passed_over():
    values = iter([OSError, ValueError, 3])

    def read():
        value = next(values)
        if isinstance(value, int):
            return value
        raise value

    sampler = Sampler(read, 1.0)
    for _ in range(3):
        sampler.sample()
    assert [value for _, value in sampler.samples] == [3]


def test_an_error_inside_ends_the_thread():
    try:
        with Sampler(lambda: 1, 100.0):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not any(thread.name == "irvis-sampler" for thread in threading.enumerate())


def test_what_takes_longer_than_a_period_lowers_the_rate():
    with Sampler(lambda: time.sleep(0.02), 1000.0) as sampler:
        time.sleep(0.1)
    assert len(sampler.samples) <= 8
