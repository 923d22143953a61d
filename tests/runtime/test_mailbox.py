import threading
import time

from irvis.runtime.mailbox import Mailbox


def test_the_newest_takes_the_place_of_the_older():
    box = Mailbox()
    assert box.put(1) is None
    assert box.put(2) == 1
    assert box.replaced == 1
    assert box.take() == 2
    assert box.take(timeout_s=0.01) is None


def test_with_every_none_is_lost_and_they_keep_their_order():
    box, given, lost = Mailbox(every=True), [], []

    def give():
        lost.extend(box.put(item) for item in range(200))
        box.close()

    thread = threading.Thread(target=give)
    thread.start()
    for item in iter(box.take, None):
        given.append(item)
        if item % 50 == 0:
            time.sleep(0.002)
    thread.join()
    assert given == list(range(200))
    assert set(lost) == {None}


def test_a_taker_wakes_when_something_comes_and_when_it_is_closed():
    box, taken = Mailbox(), []
    thread = threading.Thread(target=lambda: taken.extend([box.take(), box.take()]))
    thread.start()
    box.put("x")
    while not taken and thread.is_alive():
        time.sleep(0.001)
        if box._item is None:
            break
    box.close()
    thread.join(5)
    assert taken == ["x", None]


def test_after_close_what_is_there_may_be_taken_and_nothing_more_is_left():
    box = Mailbox()
    box.put(1)
    box.close()
    assert box.put(2) == 2
    assert box.take() == 1
    assert box.take() is None


def test_close_frees_who_waits_to_put():
    box, back = Mailbox(every=True), []
    box.put(1)
    thread = threading.Thread(target=lambda: back.append(box.put(2)))
    thread.start()
    time.sleep(0.02)
    box.close()
    thread.join(5)
    assert back == [2]
