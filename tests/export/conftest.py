"""What several tests of this folder share."""

import contextlib

import numpy as np
import pytest


@pytest.fixture
def noisy_engine(monkeypatch):
    """A function that makes the gate open, whatever it opens, the shipped student with an error that is known.

    Its argument is the error's standard deviation, of a range of 1. It stands in for an engine that was built badly.
    """
    from irvis.export import acceptance
    from irvis.runtime.fuser import Fuser
    from irvis.runtime.providers import CPU_ONLY
    from irvis.runtime.shipped import SHIPPED_MODEL

    def replace(sigma):
        @contextlib.contextmanager
        def open_engine(path, frames):
            noise = np.random.default_rng(0)
            with Fuser(SHIPPED_MODEL, providers=CPU_ONLY) as fuser:

                def on_frames(infrared, visible):
                    fused = fuser(infrared, visible)
                    return np.clip(np.rint(fused + noise.normal(0, 255 * sigma, fused.shape)), 0, 255).astype(np.uint8)

                def on_planes(infrared, visible):
                    fused = fuser.backend.run(*acceptance.to_planes((infrared, visible)))
                    return (fused + noise.normal(0, sigma, fused.shape)).astype(np.float32)

                yield on_frames if frames else on_planes

        monkeypatch.setattr(acceptance, "_open_engine", open_engine)

    return replace
