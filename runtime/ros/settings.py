"""Settings of a ROS node, from ROS parameters or the command line."""

import argparse
import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, Dict, Mapping

from irvis.runtime.cameras.pairing import SLOP_S
from irvis.runtime.errors import IrvisError

TOPIC = re.compile(r"[A-Za-z~/{][A-Za-z0-9_~/{}]*")  # for other names rospy only logs an error, and waits for ever


def _setting(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True)
class Settings:
    """A node's settings; the fields are also the names of its ROS parameters. Raises IrvisError for invalid values."""

    infrared_topic: str = _setting("infrared", "topic of infrared images, 8 or 16 bits")
    visible_topic: str = _setting("visible", "topic of visible images, 8 bits, colour or grey")
    fused_topic: str = _setting("fused", "topic to publish on")
    engine: str = _setting("", ".onnx, .engine, or irvis's own: student or fast; if empty, student")
    engine_cache: str = _setting("", "folder: run the .onnx by its TensorRT engine from there, built on first use")
    registration: str = _setting("", "file written by `irvis calibrate`; if empty, the cameras are registered already")
    crop: bool = _setting(False, "fuse only what both cameras see")
    resize: bool = _setting(False, "fit frames of another size to the model's and back")
    # ROS's synchroniser does not look for the nearest: with more than an interval, one lost message shifts all pairs.
    slop_s: float = _setting(SLOP_S, "the most that a pair's stamps differ, in seconds; below the frame interval")
    queue_size: int = _setting(10, "messages kept per topic to find pairs among")
    deadline_ms: float = _setting(100.0, "latency, from the older stamp, above which a frame is reported late")

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            kind: Any = entry.type
            # ROS reads 1 as an integer, and in Python True is one.
            allowed = (int, float) if kind is float else kind
            if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
                raise IrvisError(f"parameter {entry.name} must be of type {kind.__name__}. Got {value!r}")
        for name in ("infrared_topic", "visible_topic", "fused_topic"):
            value = getattr(self, name)
            if not TOPIC.fullmatch(value):
                raise IrvisError(f"parameter {name} must be a topic name, such as /camera/image. Got {value[:80]!r}")
        for name in ("slop_s", "queue_size", "deadline_ms"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise IrvisError(f"parameter {name} must be above 0. Got {value}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both nodes share, one for each field of Settings."""
    for entry in fields(Settings):
        name = "model" if entry.name == "engine" else entry.name  # the name that the other commands use
        about = entry.metadata["help"] + (f" (default: {entry.default})" if entry.default else "")
        kind: Dict[str, Any] = {"action": "store_true"} if entry.type is bool else {"type": entry.type}
        parser.add_argument(f"--{name.replace('_', '-')}", dest=entry.name, default=None, help=about, **kind)


def read_settings(parameters: Mapping[str, Any], arguments: argparse.Namespace) -> Settings:
    """Return the settings: the command line overrides the parameters, and those override the defaults.

    Raises IrvisError for unknown parameters and invalid values.
    """
    names = [entry.name for entry in fields(Settings)]
    for name in parameters:
        if name not in names:
            kept = "a ROS master keeps it until `rosparam delete`"
            raise IrvisError(f"unknown parameter {name} ({kept}); known are {', '.join(names)}")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return Settings(**{**parameters, **given})
