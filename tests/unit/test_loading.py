"""Weights that are not whole, and whatever else keeps a model from being loaded: refused in one line."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.evaluation.model import find_weights, vocabulary
from harness.model.policy import load_policy
from harness.model.text import load_tokenizer
from harness.rollout.engines.hf import HfEngine
from harness.rollout.sampler import sample
from harness.stages.token_stats import LOGP
from harness.util.errors import UserError
from tests.helpers.tiny import build_model, build_tokenizer, make_batch, tiny_folder

Weights = dict[str, Tensor]
ROOT = Path(__file__).parents[2]


def changed(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """The tiny model with other weights."""
    shutil.copytree(tiny_folder(), folder)
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if part not in name}


def with_one(name: str, *shape: int) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: torch.ones(shape)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            without(".layers.1."),
            r"12 of its weights are missing.*'model\.layers\.1\.input_layernorm\.weight'",
        ),
        (without("lm_head"), r"1 of its weights are missing.*'lm_head\.weight'"),
        (with_one("model.layers.2.mlp.up_proj.weight", 48, 32), r"of no use to it.*layers\.2\.mlp\.up_proj"),
        (with_one("score.weight", 1, 32), r"of no use to it.*'score\.weight'"),
        (with_one("model.norm.weight", 31), r"1 of its weights are of another shape.*'model\.norm\.weight'"),
    ],
)
def test_weights_that_are_not_whole_are_refused(
    change: Callable[[Weights], Weights], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = changed(tmp_path / "model", change)
    with pytest.raises(UserError, match=said) as raised:
        load_policy(folder)
    assert "\n" not in str(raised.value)
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_a_reward_model_is_no_policy(tmp_path: Path) -> None:
    from transformers import Qwen2ForSequenceClassification

    tokenizer = build_tokenizer()
    config = build_model(tokenizer).config
    Qwen2ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"missing.*'lm_head\.weight'"):
        load_policy(tmp_path)


def test_tied_heads_tables_and_other_parts_are_no_complaint(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    build_model(tokenizer, tie_word_embeddings=True).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in weights
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": 4, "vision_tower.patch.weight": 3}
    weights |= {name: torch.ones(size) for name, size in more.items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    policy = load_policy(tmp_path)
    assert policy.head.weight is policy.model.get_input_embeddings().weight


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    shutil.copytree(tiny_folder(), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="cannot load model .*[Ee]rror") as raised:
        load_policy(tmp_path / "model")
    assert "\n" not in str(raised.value)


def test_code_of_a_models_own_is_never_run_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder(), tmp_path / "model")
    asked_for = {
        "config.json": {
            "model_type": "of-its-own",
            "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "OfItsOwn",
            "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]},
        },
    }  # fmt: skip
    for name, words in asked_for.items():
        file = tmp_path / "model" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | words))
    (tmp_path / "model" / "own.py").write_text("raise SystemExit('this was run')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(UserError, match="cannot load model"):
        load_policy(tmp_path / "model")
    with pytest.raises(UserError, match="cannot load a tokenizer"):
        load_tokenizer(str(tmp_path / "model"))
    with pytest.raises(UserError, match="cannot load model"):
        vocabulary(find_weights(str(tmp_path / "model"), None, {}))


#: They read numbers from JSON and know no code of a model's own, nor the word.
PLAIN_READERS = {"GenerationConfig"}


def remote_code_refused(call: ast.Call) -> bool:
    """Whether a call has the words ``trust_remote_code=False``."""
    given = [k.value for k in call.keywords if k.arg == "trust_remote_code"]
    return len(given) == 1 and isinstance(given[0], ast.Constant) and given[0].value is False


def test_no_call_leaves_open_whether_code_of_a_models_own_is_run() -> None:
    """Left out, transformers asks on the terminal, and takes yes for an answer."""
    loads, open_ones = 0, []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = ast.unparse(node.func.value)
            made = node.func.attr == "from_config" and of.startswith("Auto")
            if made or (node.func.attr == "from_pretrained" and of not in PLAIN_READERS):
                loads += 1
                if not remote_code_refused(node):
                    open_ones.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert loads >= 8 and open_ones == []


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = changed(tmp_path / "model", with_one("model.norm.weight", 32))
    broken = load_file(folder / "model.safetensors")
    broken["model.norm.weight"][:] = float("nan")
    save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not finite"):
        load_policy(folder)


def test_a_pad_token_beyond_the_embedding_is_not_looked_up(tmp_path: Path) -> None:
    shutil.copytree(tiny_folder(), tmp_path / "model")
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path / "model")
    policy, usual = load_policy(tmp_path / "model"), load_policy(tiny_folder())
    assert policy.tokenizer.pad_token_id >= policy.vocabulary > policy.pad_id
    prompts, keys = [[5, 6, 7, 8], [9, 10]], [("pad", i) for i in range(4)]
    for each in (policy, HfEngine(policy).policy):
        got = sample(each, prompts, 2, keys=keys, max_tokens=6)
        want = sample(usual, prompts, 2, keys=keys, max_tokens=6)
        assert torch.equal(got.mask_NT, want.mask_NT)
        torch.testing.assert_close(got.logp_NT, want.logp_NT)
    rows = [[20, 21, 22], [23]]
    a, b = (p.stats(make_batch(p, prompts, rows), (LOGP,))["logp"] for p in (policy, usual))
    torch.testing.assert_close(a, b)
