"""A Fuser used by more threads than one."""

import threading

import numpy as np
import pytest

from irvis.benchmarks.loop_cost import NoNetwork
from irvis.runtime import Fuser, ModelError
from irvis.runtime.samples import make_scene
from irvis.runtime.work import Work

PAIR = make_scene("street", 48, 64)
OTHER = make_scene("smoke", 60, 80)


class Waiting(NoNetwork):
    """A network that says when it is at work, and works until it is let go."""

    def __init__(self):
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def run(self, infrared, visible):
        self.inside.set()
        assert self.go_on.wait(30)
        return super().run(infrared, visible)


@pytest.fixture
def busy():
    """A Fuser that another thread, "camera", is using until the test lets it go, and where its result will be."""
    backend, results = Waiting(), []
    with Fuser(backend) as fuser:
        thread = threading.Thread(target=lambda: results.append(fuser(*PAIR)), name="camera")
        thread.start()
        assert backend.inside.wait(30)
        yield fuser, backend, thread, results
        backend.go_on.set()
        thread.join()


def test_a_second_thread_is_told_at_once_and_the_first_has_its_result(busy):
    fuser, backend, thread, results = busy
    with pytest.raises(ModelError, match="serves one thread at a time: camera is using it, MainThread called it too"):
        fuser(*OTHER)
    backend.go_on.set()
    thread.join()
    np.testing.assert_array_equal(results[0], PAIR[1])
    np.testing.assert_array_equal(fuser(*OTHER), OTHER[1])


def test_the_next_pair_may_be_prepared_meanwhile_and_no_other_inferred(busy):
    fuser, _, _, _ = busy
    work = Work()
    fuser.prepare(*OTHER, work)
    with pytest.raises(ModelError, match="one thread at a time"):
        fuser.infer(work)


def test_many_threads_get_their_own_result_or_the_error():
    pairs = [make_scene("street", 48, 64, seed) for seed in range(4)]
    with Fuser(threads=1) as fuser:
        wanted = [fuser(*pair) for pair in pairs]
        outcomes = {"right": 0, "wrong": 0, "refused": 0}
        start = threading.Barrier(len(pairs))

        def work(pair, result):
            start.wait()
            for _ in range(10):
                try:
                    same = np.array_equal(fuser(*pair), result)
                    outcomes["right" if same else "wrong"] += 1
                except ModelError:
                    outcomes["refused"] += 1

        threads = [threading.Thread(target=work, args=each) for each in zip(pairs, wanted)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes["wrong"] == 0
    assert outcomes["right"] > 0
    assert sum(outcomes.values()) == 40


def test_a_fuser_for_each_thread_works():
    results = {}

    def work(name):
        with Fuser(threads=1) as fuser:
            results[name] = [fuser(*PAIR) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fused in results.values():
        for frame in fused:
            np.testing.assert_array_equal(frame, results[0][0])
