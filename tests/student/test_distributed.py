"""What two processes of one run tell each other, in two children of this one; whole runs are in test_train.py."""

import multiprocessing
import os

import pytest

torch = pytest.importorskip("torch")

from torch.distributed import TCPStore

from irvis.runtime.errors import IrvisError
from irvis.student.distributed import processes


def in_two_processes(task):
    """Return what ``task`` returns for each of two processes, or the error that it raises there."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    place.update({"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"})
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def run(rank):
        os.environ.update(place, RANK=str(rank))
        try:
            with processes("cpu") as among:
                answers.put((rank, task(among)))
        except (IrvisError, OSError) as error:
            answers.put((rank, error))

    children = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    try:
        return [answer for _, answer in sorted((answers.get(timeout=60) for _ in children), key=lambda each: each[0])]
    finally:
        for child in children:
            child.kill()
            child.join()


def test_all_processes_get_the_same_answers():
    def task(among):
        mine, calls = torch.tensor([1.0, -4.0]) * (1 + among.rank), []
        answers = (among.any(among.rank == 1), among.any(False), among.first(lambda: calls.append(1) or among.rank))
        return among.mean(mine).tolist(), answers, mine.tolist(), calls

    mean, answers = [1.5, -6.0], (True, False, 0)
    assert in_two_processes(task) == [(mean, answers, [1.0, -4.0], [1]), (mean, answers, [2.0, -8.0], [])]


@pytest.mark.parametrize(("method", "rank"), [("together", 0), ("together", 1), ("first", 0)])
@pytest.mark.parametrize("kind", [IrvisError, FileNotFoundError])
def test_an_expected_error_of_one_process_is_raised_in_all(method, rank, kind):
    def task(among):
        def fail():
            if among.rank == rank:
                raise kind("gone")

        if method == "first":
            among.first(fail)
        with among.together():
            fail()

    assert [(type(error), str(error)) for error in in_two_processes(task)] == [(kind, "gone")] * 2
