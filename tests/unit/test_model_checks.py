"""Models whose attention or vocabulary a run cannot work with are refused when the configuration is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.checks import check_attention
from harness.model.policy import load_policy
from harness.sweep.jobs import Runs
from harness.util.errors import UserError
from tests.helpers.tiny import tiny_folder

QWEN = {"model_type": "qwen2", "vocab_size": 1_000_000}


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "attention in every layer"),
        ({"text_config": {"layer_types": ["mamba"]}}, "of kind mamba"),
        ({"_attn_implementation": "flash_attention_2"}, "write model.attention=sdpa"),
    ],
)
def test_attention_without_a_mask_is_refused(config: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        check_attention(config, "auto", "some/model")


def test_a_back_end_that_is_asked_for_stands_above_the_models_own() -> None:
    check_attention({"_attn_implementation": "flash_attention_2"}, "sdpa", "some/model")
    check_attention({"layer_types": ["sliding_attention", "full_attention"]}, "auto", "some/model")


def test_it_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN | {"layer_types": ["linear_attention"]}))
    with pytest.raises(UserError, match="layers of kind linear_attention"):
        Runs().compose({"model.path": str(tmp_path)})
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(QWEN))
    with pytest.raises(UserError, match="train.logits_chunk_mib=4 or more"):
        Runs().compose({"model.path": str(other), "train.logits_chunk_mib": 1})


def test_eager_attention_is_padded_and_gives_the_same_statistics() -> None:
    import torch

    from harness.stages.token_stats import ENTROPY, LOGP
    from tests.helpers.tiny import make_batch

    sdpa, eager = (load_policy(tiny_folder(), attention=name) for name in ("sdpa", "eager"))
    assert sdpa.packs and not eager.packs
    batch = make_batch(sdpa, [[5, 6, 7], [9]], [[20, 21], [23, 24, 25]])
    a, b = sdpa.stats(batch, (LOGP, ENTROPY)), eager.stats(batch, (LOGP, ENTROPY))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)
