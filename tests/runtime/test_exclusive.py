import os
import threading

import pytest

from irvis.runtime.errors import ModelError
from irvis.runtime.exclusive import Birthplace, exclusive


class Slow:
    """Stays in its method until it is let go."""

    def __init__(self):
        self.inside, self.go_on = threading.Event(), threading.Event()

    @exclusive
    def work(self, result, again=False):
        """Say what it was given."""
        self.inside.set()
        assert self.go_on.wait(30)
        return self.work(result) if again else result


def test_a_second_thread_is_told_both_names_and_the_first_has_its_result():
    slow, results = Slow(), []
    thread = threading.Thread(target=lambda: results.append(slow.work(1)), name="camera")
    thread.start()
    assert slow.inside.wait(30)
    with pytest.raises(
        ModelError, match=r"a Slow serves one thread at a time: camera is using it, MainThread called it too"
    ):
        slow.work(2)
    slow.go_on.set()
    thread.join()
    assert results == [1]
    assert slow.work(3) == 3


def test_two_objects_do_not_know_of_each_other():
    first, second = Slow(), Slow()
    second.go_on.set()
    thread = threading.Thread(target=lambda: first.work(1))
    thread.start()
    assert first.inside.wait(30)
    assert second.work(2) == 2
    first.go_on.set()
    thread.join()


def test_a_call_out_of_itself_is_refused_too_and_an_error_leaves_it_free():
    slow = Slow()
    slow.go_on.set()
    with pytest.raises(ModelError, match="MainThread is using it, MainThread called it too"):
        slow.work(1, again=True)
    assert slow.work(2) == 2


def test_of_many_threads_none_meets_another():
    class Counter:
        inside = refused = 0

        @exclusive
        def work(self):
            self.inside += 1
            assert self.inside == 1
            self.inside -= 1

    counter, failures = Counter(), []

    def work():
        for _ in range(2000):
            try:
                counter.work()
            except ModelError:
                counter.refused += 1
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    counter.work()


def test_the_method_keeps_its_name_and_description():
    assert (Slow.work.__name__, Slow.work.__doc__) == ("work", "Say what it was given.")


def test_what_was_made_before_a_fork_is_refused_in_it(in_a_fork):
    birthplace = Birthplace()
    birthplace.check("this engine")
    told = in_a_fork(lambda: birthplace.check("this engine"))
    assert told.startswith(f"ModelError: this engine was opened in process {os.getpid()}, which was forked since")
    assert in_a_fork(lambda: Birthplace().check("this engine")) == "nothing"
