"""Tokens to Fused, one module per file. To add one: subclass `Fusion` in a file here, name its class path in YAML."""

from mer.fusion.attention_pool import AttentionPool
from mer.fusion.base import Fused, Fusion
from mer.fusion.concat import Concat

__all__ = ["AttentionPool", "Concat", "Fused", "Fusion"]
