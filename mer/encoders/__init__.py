"""Sampled to Tokens, one file each. To add one: subclass `Encoder` in a file here and name its class path in YAML."""

from mer.encoders.base import Encoder
from mer.encoders.features import FeatureEncoder
from mer.encoders.frames import FrameCNN
from mer.encoders.melnet import MelNet
from mer.encoders.swinface import SwinFace
from mer.encoders.text import TextEncoder

__all__ = ["Encoder", "FeatureEncoder", "FrameCNN", "MelNet", "SwinFace", "TextEncoder"]
