"""Frames from cameras and recordings: sources, named by URIs, and synchronised frame pairs from two sources."""

from irvis.runtime.cameras.frame import Frame
from irvis.runtime.cameras.matcher import FramePair
from irvis.runtime.cameras.pairing import PairedSources
from irvis.runtime.cameras.source import Source, SourceStatus, open_source

__all__ = ["Frame", "FramePair", "PairedSources", "Source", "SourceStatus", "open_source"]
