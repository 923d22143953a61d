from irvis.runtime.cameras.frame import FramePool, each


def test_a_frame_that_is_released_twice_is_given_to_one_taker():
    """By whoever reads it in a ``for`` loop and releases it there, for example."""
    pool = FramePool()
    frames = [pool.take() for _ in range(pool.USUAL)]
    for frame in each(iter([frames[0], None]).__next__):
        frame.release()
    assert pool.take() is frames[0]
    assert pool.take() not in frames
    frames[0].release()
    assert pool.take() is frames[0]
