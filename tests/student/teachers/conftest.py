import pytest


@pytest.fixture
def cost():
    """Return a function: a network's class -> its multiply-adds at 480x640 and its parameters, as ``thop`` counts them.

    ``thop`` leaves out parameters of modules that are never called.
    """
    thop, torch = pytest.importorskip("thop"), pytest.importorskip("torch")

    def count(kind):
        with torch.device("meta"):  # shapes are all that is counted
            network, plane = kind().eval(), torch.zeros(1, 1, 480, 640)
        with torch.inference_mode():
            return thop.profile(network, inputs=(plane, plane), verbose=False)

    return count
