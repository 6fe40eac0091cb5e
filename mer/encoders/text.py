"""Words through any text network of `transformers`: one token per word, segment or piece of a word, with its time."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mer.encoders import catalogue, library
from mer.encoders.base import Encoder
from mer.encoders.layer_mix import LayerMix, Layers
from mer.encoders.weights import KeyTable
from mer.errors import UserError
from mer.media.text import decoded, spaceless
from mer.spec import InputSpec
from mer.tokens import Sampled, Tokens

_BERT = {"model_type": "bert", "vocab_size": 30522}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_ROBERTA = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
PRESETS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": _BERT,
    "bert-base-chinese": _BERT | {"vocab_size": 21128},
    "chinese-roberta-wwm-ext": _BERT | {"vocab_size": 21128},  # a BERT by its architecture
    "chinese-roberta-wwm-ext-large": _BERT | _LARGE | {"vocab_size": 21128},
    "roberta-base": _ROBERTA,
    "roberta-large": _ROBERTA | _LARGE,
    "xlm-roberta-base": _ROBERTA | {"model_type": "xlm-roberta", "vocab_size": 250002},
    "xlm-roberta-large": _ROBERTA | _LARGE | {"model_type": "xlm-roberta", "vocab_size": 250002},
}
_PACKED = "packed:"
_LARGEST = 1 << 26  # bytes of a tokenizer.json; the largest vocabularies in use take a quarter
# Of BERT and RoBERTa, DeBERTa, ELECTRA, DistilBERT, ALBERT.
_HEADS = (
    "cls|lm_head|qa_outputs|classifier|score|mask_predictions|lm_predictions|discriminator_predictions|"
    "generator_predictions|generator_lm_head|pre_classifier|vocab_transform|vocab_layer_norm|vocab_projector|predictions"
)
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm")


class TextEncoder(Encoder):
    """A text network over the words of a clip (BERT, RoBERTa, DeBERTa, XLM-R, LLaMA ...).

    The words are joined to the text they came from, cut by the network's own tokenizer, and what it gives for the pieces of
    a word is averaged. Text beyond the network's positions is read in consecutive parts, which do not see each other.

    Args:
        tokenizer: `tokenizer.json`, the folder of the weights that has one, or a name that `mer weights list` prints. Its
            content is kept with the model (as `packed:...`), so that a checkpoint needs no other file.
        architecture: name of a preset, see `PRESETS`.
        config: in its place the `config.json` of any text network of transformers, its folder, or its content.
        layers: `last`, `last4` (their sum), `weighted` (learnt), or an index; see `mer.encoders.layer_mix`. Layers behind
            the one that is asked for are not trained.
        tokens: `word`; `segment`, a mean over the words that share a span; `piece`, what the tokenizer makes of them.
        width: bytes of a word that are kept.
        window: seconds the predictor shows at once.

    Tokens: one per word, (B, words, dim), with the word's time where the transcript has times of words, else its segment's.

    Raises:
        UserError: no tokenizer, no or two ways of saying what to build, values that make no network, one that needs more
            than a text (a decoder, pictures), or fewer pieces than the tokenizer has.
    """

    def __init__(
        self,
        tokenizer: str,
        architecture: str | None = None,
        config: str | dict[str, Any] | None = None,
        layers: Layers = "last",
        tokens: Literal["word", "segment", "piece"] = "word",
        width: int = 48,
        window: float | None = 10.0,
    ):
        super().__init__()
        if tokens not in ("word", "segment", "piece") or width < 4:
            raise UserError(
                f"TextEncoder with tokens {tokens!r} and width {width}", "Use word, segment or piece; 4 or more"
            )
        plain = library.plain_config(architecture, config, PRESETS)
        # What a checkpoint builds the same encoder from, wherever the files were.
        self.init_args |= {"tokenizer": _read(tokenizer), "architecture": None, "config": plain}
        self.network = _without_pooler(library.network(plain))
        settings: Any = self.network.config
        sizes = [getattr(settings, name, None) for name in ("hidden_size", "num_hidden_layers", "vocab_size")]
        if not all(isinstance(size, int) for size in sizes) or getattr(settings, "is_encoder_decoder", False):
            raise UserError(
                f"a {settings.model_type!r} does not read a text alone",
                "Use the config of an encoder of text, or of a decoder that works alone (BERT, DeBERTa, LLaMA ...)",
            )
        self.spec = InputSpec("text", width=width, window=window)
        self.dim, self.kind = int(settings.hidden_size), tokens
        self.mix = LayerMix(layers, int(settings.num_hidden_layers) + 1)
        if isinstance(layers, int):
            _freeze_behind(self.network, layers)
        # RoBERTa and its children count positions from behind the padding's.
        taken = int(settings.pad_token_id or 0) + 1 if settings.model_type in _AFTER_PADDING else 0
        longest = int(getattr(settings, "max_position_embeddings", 512)) - taken
        self._tokenizer = _unpacked(self.init_args["tokenizer"], min(longest, 512))
        if longest <= self._tokenizer.num_special_tokens_to_add(False):
            raise UserError(f"a network of {longest} positions has no place for words", "Correct the config")
        if self._tokenizer.get_vocab_size() > settings.vocab_size:
            raise UserError(
                f"the tokenizer knows {self._tokenizer.get_vocab_size()} pieces, the network {settings.vocab_size}",
                "Take both from one folder",
            )

    def tables(self) -> Sequence[KeyTable]:
        return hub_tables(self.network)

    def forward(self, inputs: Sampled) -> Tokens:
        parts = [part for row in range(len(inputs)) for part in self._parts(row, inputs)]
        if not parts:
            values = inputs.spans.new_zeros((*inputs.mask.shape, self.dim))
            values = self.in_graph(values)
            return Tokens(values, torch.zeros_like(inputs.mask), inputs.spans)
        pieces = self._encoded(parts)
        row = torch.tensor([p.row for p in parts for _ in p.words], device=pieces.device)
        word = torch.tensor([w for p in parts for w in p.words], device=pieces.device)
        if self.kind == "piece":
            return _gathered(pieces, row, inputs.spans[row, word], len(inputs))
        size = inputs.mask.shape[1]
        if self.kind == "segment":
            new = torch.ones_like(inputs.mask)
            new[:, 1:] = (inputs.spans[:, 1:] != inputs.spans[:, :-1]).any(2) | ~inputs.mask[:, 1:]
            word = (new.cumsum(1) - 1)[row, word]
        place = row * size + word
        flat = pieces.new_zeros((len(inputs) * size, self.dim)).index_add(0, place, pieces)
        count = torch.zeros(len(flat), device=pieces.device).index_add(
            0, place, torch.ones_like(place, dtype=torch.float)
        )
        values = (flat / count.clamp(min=1)[:, None].to(flat.dtype)).unflatten(0, (len(inputs), size))
        if self.kind == "word":
            return Tokens(values, inputs.mask, inputs.spans)
        first = new & inputs.mask
        segment = (torch.cumsum(new, 1) - 1)[first]
        mask = torch.arange(size, device=first.device)[None] < first.sum(1, keepdim=True)
        spans = torch.zeros_like(inputs.spans)
        spans[first.nonzero()[:, 0], segment] = inputs.spans[first]
        return Tokens(values * mask[..., None], mask, spans)

    def _parts(self, row: int, inputs: Sampled) -> list[_Part]:
        """The pieces of one clip's text, and of which word each is, in parts that fit the network."""
        said = decoded(inputs.values[row, inputs.mask[row]].cpu().numpy())
        text, owner = "", []
        for number, word in enumerate(said):
            gap = " " if text and not (spaceless(text[-1]) and spaceless(word[:1])) else ""
            text += gap + word
            owner += [number] * (len(gap) + len(word))
        if not text:
            return []
        whole = self._tokenizer.encode(text)
        return [
            _Part(row, e.ids, [i for i, special in enumerate(e.special_tokens_mask) if not special], words)
            for e in (whole, *whole.overflowing)
            if (
                words := [
                    owner[min(max(a, b - 1), len(owner) - 1)]
                    for (a, b), s in zip(e.offsets, e.special_tokens_mask, strict=True)
                    if not s
                ]
            )
        ]

    def _encoded(self, parts: Sequence[_Part]) -> Tensor:
        """(pieces, dim) of all parts, special tokens left out."""
        device = next(self.network.parameters()).device
        longest = max(len(part.ids) for part in parts)
        padding = int(getattr(self.network.config, "pad_token_id", None) or 0)
        ids = torch.full((len(parts), longest), padding)
        real = torch.zeros((len(parts), longest), dtype=torch.long)
        for i, part in enumerate(parts):
            ids[i, : len(part.ids)], real[i, : len(part.ids)] = torch.tensor(part.ids), 1
        out = self.network(input_ids=ids.to(device), attention_mask=real.to(device), output_hidden_states=True)
        mixed = self.mix([*out.hidden_states[:-1], out.last_hidden_state])
        return torch.cat([mixed[i, part.kept] for i, part in enumerate(parts)])


@dataclass(frozen=True)
class _Part:
    """Text that goes through the network at once.

    Attributes:
        row: of the batch.
        ids: of all pieces, with the special ones that the network wants.
        kept: places of the pieces that are no special ones.
        words: per kept piece the number of its word.
    """

    row: int
    ids: list[int]
    kept: list[int]
    words: list[int]


def _gathered(values: Tensor, row: Tensor, spans: Tensor, batch: int) -> Tokens:
    """Pieces (P, D) of the rows (P,), in order, as padded tokens."""
    lengths = torch.bincount(row, minlength=batch)
    place = torch.arange(len(row), device=row.device) - (lengths.cumsum(0) - lengths)[row]
    size = int(lengths.max())
    out, when = values.new_zeros((batch, size, values.shape[1])), spans.new_zeros((batch, size, 2))
    when[row, place] = spans
    return Tokens(
        out.index_put((row, place), values), torch.arange(size, device=row.device)[None] < lengths[:, None], when
    )


def _without_pooler(network: nn.Module) -> nn.Module:
    """BERT's pooler reads the first token for a task of its own; here it would get no gradient."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # type: ignore[assignment]
    return network


@torch.enable_grad()
def _freeze_behind(network: nn.Module, layer: int) -> None:
    """Take out of training what a hidden state does not depend on; distributed training waits for every gradient."""
    first = next(network.parameters())
    if first.is_meta:
        return
    network.eval()
    one = torch.zeros((1, 1), dtype=torch.long, device=first.device)
    state = network(input_ids=one, output_hidden_states=True).hidden_states[layer]
    network.train()
    reached, seen, waiting = set(), set(), [state.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        reached.add(id(getattr(node, "variable", None)))  # leaves of the graph hold their parameter
        waiting += [before for before, _ in node.next_functions]
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in reached)


def hub_tables(network: nn.Module) -> tuple[KeyTable, ...]:
    """Files of the bare network, and of a network for a task around it; names of norms new and old."""
    prefix = str(getattr(network, "base_model_prefix", ""))
    unused = (
        (r"position_ids$|token_type_ids$|rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$", "a constant"),
        (r"(^|\.)pooler\.", "a pooler, for sentence pairs"),
        (rf"^({_HEADS})\.", "a head for another task"),
    )
    old = ((r"LayerNorm\.weight$", "LayerNorm.gamma"), (r"LayerNorm\.bias$", "LayerNorm.beta"))
    return tuple(
        KeyTable(f"transformers{name}{age}", (*pairs, *names), unused)
        for name, pairs in (("", ()), (f", inside {prefix!r}", ((r"^", f"{prefix}."),)))
        for age, names in (("", ()), (" of the first years", old))
    )


# -- the tokenizer ------------------------------------------------------------------------------------------------------


def packed(text: str) -> str:
    """The content of a tokenizer.json as a short plain string, which `TextEncoder` takes as `tokenizer`."""
    return _PACKED + base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def _read(tokenizer: str) -> str:
    if tokenizer.startswith(_PACKED):
        return tokenizer
    path = catalogue.locate(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file() and file.suffix == ".json":
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: not a readable tokenizer.json ({error})", "Download the folder again") from None
    elif path.is_dir():  # a vocabulary in the form of its time
        package = library.transformers()
        try:
            slow: Any = package.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            text = slow.backend_tokenizer.to_str()
        except Exception as error:  # each kind of tokenizer misses its files in its own way
            said = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: no tokenizer in it ({said})", "Download tokenizer.json, too") from None
    else:
        raise UserError(f"{tokenizer}: no such tokenizer", "Give tokenizer.json, or the folder of the weights")
    return packed(text)


def _unpacked(content: str, longest: int) -> Any:
    from tokenizers import Tokenizer

    try:
        inflate = zlib.decompressobj()
        text = inflate.decompress(base64.b85decode(content.removeprefix(_PACKED)), _LARGEST)
        if inflate.unconsumed_tail:
            raise ValueError(f"more than {_LARGEST >> 20} MiB")
        tokenizer = Tokenizer.from_str(text.decode())
    except Exception as error:  # zlib, base64, UTF-8, and the tokenizer's own parser
        if isinstance(error, (zlib.error, binascii.Error, ValueError)) or type(error) is Exception:
            raise UserError(f"not a readable tokenizer.json ({error})", "Download the folder again") from None
        raise
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer
