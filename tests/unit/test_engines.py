"""What all engines share: requests and their checks, tokens and text, opening by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.rollout.engines import text as engine_text
from harness.rollout.engines.base import ENGINES, Sampling, check_length, open_engine
from harness.util.errors import UserError
from tests.helpers.scripts import run_code
from tests.helpers.tiny import build_tokenizer, tiny_folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


def with_begin_token(tokenizer: Any, *, end: bool = False) -> Any:
    """A tokenizer that puts ``<|pad|>`` in front of every text, as Llama's does with its begin token."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens({"bos_token": "<|pad|>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A <|end|>" if end else "<|pad|> $A",
        special_tokens=[("<|pad|>", 0), ("<|end|>", 1)],
    )
    return tokenizer


def test_the_begin_token_comes_once() -> None:
    tokenizer = with_begin_token(build_tokenizer())
    bare = tokenizer("the fox", add_special_tokens=False)["input_ids"]
    assert engine_text.encode(tokenizer, "the fox") == [0, *bare]
    assert tokenizer("<|pad|>the fox")["input_ids"] == [0, 0, *bare], "the trap that encode avoids"
    assert engine_text.encode(tokenizer, "<|pad|>the fox") == [0, *bare]


def test_a_prompt_gets_no_end_token() -> None:
    tokenizer = with_begin_token(build_tokenizer(), end=True)
    bare = tokenizer("the fox", add_special_tokens=False)["input_ids"]
    assert engine_text.encode(tokenizer, "the fox") == [0, *bare]
    assert engine_text.encode(tokenizer, "the fox<|end|>")[-1] == 1, "one that the template wrote stays"


def test_a_tokenizer_without_begin_token_encodes_as_it_is(tokenizer: Any) -> None:
    said = "<|user|>numbers are 0 1 2<|end|>"
    assert engine_text.encode(tokenizer, said) == tokenizer(said)["input_ids"]


def test_a_response_ends_with_its_stop_text(tokenizer: Any) -> None:
    ids = tokenizer("the quick brown fox jumps")["input_ids"] + [1]
    count, said, reason = engine_text.cut(tokenizer, ids, "end", ("own f", "jum"))
    assert (said, reason) == ("the quick brown f", "stop")
    assert tokenizer.decode(ids[:count]).startswith(said)
    assert "own f" not in tokenizer.decode(ids[: count - 1]), "no token after the one that completed it"


def test_without_stop_text_everything_counts(tokenizer: Any) -> None:
    ids = tokenizer("the fox")["input_ids"] + [1]
    assert engine_text.cut(tokenizer, ids, "end", ("zebra",)) == (len(ids), "the fox", "end")
    assert engine_text.cut(tokenizer, ids[:-1], "length", ()) == (len(ids) - 1, "the fox", "length")


@pytest.mark.parametrize(
    ("prompt", "limit", "context", "words"),
    [
        (0, 5, 20, "has no tokens"),
        (25, 5, 20, "fills the context of 20"),
        (18, 5, 20, "set max_tokens to 2 or less"),
    ],
)
def test_what_does_not_fit_is_refused(prompt: int, limit: int, context: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        check_length(prompt, Sampling(1.0, 1.0, limit), context, "problem 7")
    assert "problem 7" in str(error.value)


def test_what_fits_is_not_refused() -> None:
    check_length(15, Sampling(1.0, 1.0, 5), 20)
    check_length(10**6, Sampling(1.0, 1.0, 5), None)


@pytest.mark.parametrize(
    "settings",
    [
        (-0.1, 1.0, 5),
        (float("nan"), 1.0, 5),
        (1.0, 0.0, 5),
        (1.0, 1.1, 5),
        (1.0, 1.0, 0),
        (1.0, 1.0, 5, (), ("",)),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(settings: tuple[Any, ...]) -> None:
    with pytest.raises(UserError):
        Sampling(*settings)


def test_an_unknown_engine_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean vllm"):
        open_engine("vlm", str(tiny_folder()))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(UserError, match="unknown dtype 'float31'"):
        open_engine("hf", str(tiny_folder()), dtype="float31")
    with pytest.raises(UserError, match="unknown option of engine hf 'batch_row'; did you mean batch_rows"):
        open_engine("hf", str(tiny_folder()), batch_row=3)
    with pytest.raises(UserError, match="option batch_rows of engine hf must be a whole number, not 'many'"):
        open_engine("hf", str(tiny_folder()), batch_rows="many")
    with pytest.raises(UserError, match="max_positions must be a whole number over 1, not 'True'"):
        open_engine("hf", str(tiny_folder()), max_positions=True)
    with pytest.raises(UserError, match="over 0"):
        open_engine("hf", str(tiny_folder()), logp_temperature=0)


def test_a_model_without_tokenizer_names_the_remedy(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_folder() / name, tmp_path)
    with pytest.raises(UserError, match="has no tokenizer; copy the files") as error:
        open_engine("hf", str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_without_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        open_engine("hf", str(tmp_path))


def test_the_contract_imports_no_torch() -> None:
    code = "import sys, harness.rollout.engines; sys.exit('torch' in sys.modules or 'vllm' in sys.modules)"
    assert run_code(code).returncode == 0


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_tells_its_state_in_a_line(name: str) -> None:
    from importlib import import_module

    line = import_module(ENGINES[name]).status()
    assert line and "\n" not in line


def test_without_vllm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.rollout.engines import vllm as starter

    monkeypatch.setattr(starter, "installed_version", lambda: None)
    with pytest.raises(UserError, match=r"vllm is not installed; pip install 'entrobench\[vllm\]'"):
        open_engine("vllm", str(tiny_folder()))
    assert starter.status().startswith("not usable: vllm is not installed")


def test_an_old_vllm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.rollout.engines import vllm as starter

    monkeypatch.setattr(starter, "installed_version", lambda: "0.9.2")
    with pytest.raises(UserError, match="vllm 0.9.2 is too old; install 0.32 or newer"):
        open_engine("vllm", str(tiny_folder()))
    monkeypatch.setattr(starter, "installed_version", lambda: "1.0")
    assert starter.unusable() == ""


def test_a_folder_called_vllm_is_not_the_package(tmp_path: Path) -> None:
    """Any folder of that name on the path would otherwise be taken for it."""
    (tmp_path / "vllm").mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from harness.rollout.engines.vllm import installed_version; print(installed_version())"
    )
    runs = [run_code(code, p).stdout for p in (tmp_path, tmp_path / "elsewhere")]
    assert runs[0] == runs[1] != ""


def test_seeds_depend_on_the_key_alone() -> None:
    from harness.rollout.engines.vllm_engine import seed_of

    seeds = {seed_of(("evaluation", 1, f"p{p}", i)) for p in range(50) for i in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= s < 2**63 for s in seeds)
    assert seed_of(("a", 1)) == 0x565957E8B79C3FCD  # the seeds of committed samples must not change
