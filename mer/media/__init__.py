"""Files to arrays with presentation times. `prepare` is the one door: an encoder's `InputSpec` in, `Sampled` out."""

from mer.media.prepare import prepare
from mer.media.probe import MediaInfo, probe

__all__ = ["MediaInfo", "prepare", "probe"]
