"""A tokenizer for tests: words are cut into letters."""

from __future__ import annotations

import string
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mer.encoders.text import TextEncoder, packed

LETTERS = string.ascii_lowercase
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = {name: i for i, name in enumerate((*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS)))}


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.BertProcessing(("[SEP]", VOCABULARY["[SEP]"]), ("[CLS]", VOCABULARY["[CLS]"]))
    return made


def tiny(tokens: Any = "word", layers: int = 2, mix: Any = None) -> TextEncoder:
    """A small BERT that reads letters."""
    config = {
        "model_type": "bert", "vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": layers,
        "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64, "type_vocab_size": 1,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    mix = mix or ("weighted" if layers else "last")
    return TextEncoder(packed(tokenizer().to_str()), config=config, layers=mix, tokens=tokens)
