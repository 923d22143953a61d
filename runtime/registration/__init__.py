"""Registration: mapping infrared frames to the geometry of the visible ones."""

from irvis.runtime.registration.homography import Registration
from irvis.runtime.registration.warp import Warp

__all__ = ["Registration", "Warp"]
