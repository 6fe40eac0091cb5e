"""A config builds a network, and decides nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from mer.encoders import library

TINY: dict[str, Any] = {
    "model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 8,
}  # fmt: skip


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_an_attention_from_a_place_on_a_hub_is_not_fetched(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_kernels = pytest.importorskip("transformers.integrations.hub_kernels")
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *_, **__: pytest.fail("fetched"), raising=False)
    plain = library.plain_config(None, TINY | {key: "kernels-community/flash-attn2"}, {})
    settings: Any = library.network(plain).config
    assert settings._attn_implementation in ("sdpa", "eager")


def test_nor_is_what_a_config_inside_another_names() -> None:
    inside = {"hidden_size": 8, "auto_map": {"AutoModel": "there--code.Model"}, "attn_implementation": "a/b"}
    plain = library.plain_config(None, {"model_type": "clip", "text_config": inside, "id2label": {"0": "a"}}, {})
    assert plain == {"model_type": "clip", "text_config": {"hidden_size": 8}, "id2label": {"0": "a"}}
