"""A Fuser that is opened and closed again and again."""

import os
import threading

import numpy as np
import pytest

from irvis.runtime.fuser import Fuser

PAIR = np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.uint8)


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), threading.active_count()


@pytest.mark.slow
def test_a_hundred_cycles_keep_memory_descriptors_and_threads():
    def cycle():
        with Fuser(threads=2) as fuser:
            fuser(*PAIR)

    for _ in range(20):
        cycle()
    before, before_bytes = held(), resident_bytes()
    for _ in range(80):
        cycle()
    print("descriptors, tasks, threads:", before, held(), "bytes more:", resident_bytes() - before_bytes)
    assert held() == before
    assert resident_bytes() - before_bytes < 12 << 20  # a session has more than that: a tenth of them kept would show
