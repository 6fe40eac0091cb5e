"""Tokens to Fused, one module per file. To add one: subclass `Fusion` in a file here, name its class path in YAML."""

from mer.fusion.almt import ALMT
from mer.fusion.attention_pool import AttentionPool
from mer.fusion.base import Fused, Fusion
from mer.fusion.bottleneck import Bottleneck
from mer.fusion.can import CAN
from mer.fusion.cmtf import CMTF
from mer.fusion.concat import Concat
from mer.fusion.cross_attention import CrossAttention
from mer.fusion.detail_enhanced import DetailEnhanced
from mer.fusion.divergence import Divergence
from mer.fusion.emert import EMERT
from mer.fusion.gated import Gated
from mer.fusion.interfusion import InterFusion
from mer.fusion.jmt import JMT
from mer.fusion.late import Late
from mer.fusion.lfan import LFAN
from mer.fusion.lmf import LMF
from mer.fusion.misa import MISA
from mer.fusion.mult import MulT
from mer.fusion.tfn import TFN
from mer.fusion.token_concat import TokenConcat
from mer.fusion.token_exchange import TokenExchange

__all__ = [
    "ALMT",
    "CAN",
    "CMTF",
    "EMERT",
    "JMT",
    "LFAN",
    "LMF",
    "MISA",
    "TFN",
    "AttentionPool",
    "Bottleneck",
    "Concat",
    "CrossAttention",
    "DetailEnhanced",
    "Divergence",
    "Fused",
    "Fusion",
    "Gated",
    "InterFusion",
    "Late",
    "MulT",
    "TokenConcat",
    "TokenExchange",
]
