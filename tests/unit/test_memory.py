"""The memory plan against what tensors hold: weights, activations, a whole update; and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.micro.testbed import BASE_DIR
from harness.cli import main
from harness.config.schema import to_dict
from harness.model.agreement import check_agreement
from harness.model.memory import KNOWN, find_shape, machine, plan_memory
from harness.model.memory.estimate import activation_bytes, can_be_fused
from harness.model.memory.machine import check_drawing, check_training, machine_mib, usable_bytes
from harness.model.memory.shape import from_config
from harness.model.packing import pack
from harness.model.policy import Policy
from harness.run.compose import compose
from harness.stages.base import Minibatch
from harness.stages.token_stats import ENTROPY, LOGP
from harness.sweep.jobs import Runs
from harness.sweep.plan import plan
from harness.sweep.spec import load_sweep
from harness.train.trainer import Trainer
from harness.train.update import UpdateLog
from harness.util.errors import UserError
from tests.helpers.live_bytes import LiveBytes, kept_for_backward
from tests.helpers.math_files import write_sets
from tests.helpers.tiny import LetterBenchmark, build_model, make_batch, small_run, tiny_folder, tiny_policy

PROMPT, RESPONSE = 20, 101
FAMILIES = ("qwen2", "qwen3", "llama", "olmo2")


def config_of(family: str, **sizes: Any) -> Any:
    import transformers as hf

    kind = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama", "olmo2": "Olmo2"}[family]
    return getattr(hf, f"{kind}Config")(**sizes)


def small(family: str) -> Any:
    from transformers import AutoModelForCausalLM

    sizes = {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_of(family, **sizes)).eval()


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_table_counts_the_parameters_of_the_real_architecture(name: str) -> None:
    from transformers import AutoModelForCausalLM

    shape = KNOWN[name]
    config = config_of(
        shape.family, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, head_dim=shape.head_dim,
        num_key_value_heads=shape.kv_heads, vocab_size=shape.vocab, tie_word_embeddings=shape.tied,
        max_position_embeddings=shape.positions,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == shape.params
    assert from_config(config.to_dict(), name) == shape


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_what_a_forward_pass_keeps(family: str, compute: torch.dtype | None) -> None:
    policy = Policy(small(family), tiny_policy().tokenizer)
    check_agreement(policy, family)
    if compute is not None:
        policy.network.compute_in(compute)
    policy.network.ready()
    shape = from_config(policy.model.config.to_dict(), family)
    assert shape.params == sum(p.numel() for p in policy.network.trainable())
    batch = make_batch(policy, [[5] * PROMPT] * 8, [[7] * RESPONSE] * 8)
    tokens = pack(batch).ids_1L.numel()
    kept = {}
    for layers in (3, 2):  # the difference is one layer: what stands outside the layers cancels
        policy.model.base_model.layers = policy.model.base_model.layers[:layers]
        policy.model.base_model.config.num_hidden_layers = layers
        with kept_for_backward(policy.model) as found:
            policy.stats(batch, (LOGP, ENTROPY))
        kept[layers] = sum(found.values())
    size = 2 if compute else 4
    fused = policy.network.ways.fuse and compute is None
    assert policy.network.ways.fuse == can_be_fused(shape)
    assert kept[3] - kept[2] == pytest.approx(activation_bytes(shape, tokens, size, fused)[0], rel=1e-3)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("compute", ["same", "bfloat16"])
def test_an_update_holds_what_the_plan_says(compute: str, recompute: bool) -> None:
    run = small_run(
        "device=cpu", "train.minibatches=1", "train.micro_batch_rows=4", "train.logits_chunk_mib=1",
        f"model.compute_dtype={compute}", f"train.activation_checkpointing={str(recompute).lower()}",
        f"rollout.max_response_tokens={RESPONSE}", "rollout.prompts_per_step=4", "rollout.group_size=2",
    )  # fmt: skip
    tokenizer = tiny_policy().tokenizer
    sizes = {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 6}
    policy = Policy(build_model(tokenizer, **sizes), tokenizer)
    check_agreement(policy, "tiny")
    trainer = Trainer(run, policy, LetterBenchmark(), run.method.stages())
    batch = make_batch(policy, [[5 + i // 2] * PROMPT for i in range(8)], [[7] * RESPONSE] * 8)
    batch = trainer.old_pass(batch.with_(advantage_BT=torch.ones(batch.mask_BT.shape)))
    shape = from_config(policy.model.config.to_dict(), "tiny")
    found = plan_memory(shape, to_dict(run), prompt_tokens=PROMPT)
    expected = sum(part.update for part in found.parts if "Python" not in part.name)
    with LiveBytes() as held:
        for value in (*policy.model.parameters(), *policy.network.trainable()):
            held.hold(value)
        for _ in range(2):
            trainer.update(Minibatch(batch), UpdateLog(), trainer.context())
    assert held.peak == pytest.approx(expected, rel=0.1)


def test_several_processes_share_what_is_sharded() -> None:
    config, shape = to_dict(small_run("train.micro_batch_rows=1")), KNOWN["Qwen/Qwen2.5-7B"]
    one, many = (plan_memory(shape, config, gpus=gpus) for gpus in (1, 8))
    first, eighth = ({p.name: p.update for p in found.parts} for found in (one, many))
    assert eighth["optimiser"] == first["optimiser"] / 8 and eighth["weights"] == first["weights"] / 8
    assert eighth["gradients"] == first["gradients"] / 8  # one micro-batch: nothing is added up
    added_up = plan_memory(
        shape, to_dict(small_run("train.micro_batch_rows=1", "train.minibatches=1")), gpus=8
    )
    assert {p.name: p.update for p in added_up.parts}["gradients"] > first["gradients"]


# --- the command ------------------------------------------------------------------------------------------

SETTINGS = (
    "rollout.prompts_per_step=32", "rollout.group_size=8", "rollout.max_response_tokens=1024",
    "train.micro_batch_rows=4", "eval.batch_rows=256",
)  # fmt: skip


def test_a_run_that_fits_and_one_that_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan-memory", "model=Qwen/Qwen2.5-Math-1.5B", "model.compute_dtype=bfloat16", *SETTINGS]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "1.54 billion parameters on 1 GPU of 80G" in out and "fits: " in out
    assert main([*words, "memory=40G"]) == 1
    out = capsys.readouterr().out
    assert "does not fit: " in out and "(train.micro_batch_rows)" in out
    last = out.strip().splitlines()[-1]
    assert last.endswith("fits") and float(last.split(": ")[1].split()[0]) <= 40


def test_on_a_cpu_the_memory_is_the_machines(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan-memory", "model=Qwen/Qwen2.5-0.5B", "device=cpu", "train.micro_batch_rows=1"]
    main(words)
    out = capsys.readouterr().out
    assert f"billion parameters on a CPU of {machine_mib()}M" in out
    assert "Python and its libraries" in out and "CUDA" not in out and "GPU" not in out
    # a process that holds nothing yet, by measurement a quarter of a gibibyte
    assert main([*words, "memory=100M"]) == 1


def test_an_expert_is_held_too(capsys: pytest.CaptureFixture[str]) -> None:
    run = compose({"method": "mentor", "model.path": "micro", "data.benchmark": "micro", "device": "cpu"})
    shape = find_shape(str(BASE_DIR))
    plain, both = (plan_memory(shape, to_dict(run), beside=other) for other in ({}, {"method.expert": shape}))
    assert both.update - plain.update == both.sampling - plain.sampling == 4 * shape.params
    assert main(["plan-memory", "model=micro", "method=mentor", "device=cpu", "data.benchmark=micro"]) == 0
    assert "second model" in capsys.readouterr().out


def test_prompts_of_a_drawn_set_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    """With prompts of 512 tokens a run on short ones would be planned far too large."""
    from harness.registry import benchmarks

    words = ["plan-memory", f"model={tiny_folder()}", "data.benchmark=words", "device=cpu"]
    main(words)
    out = capsys.readouterr().out
    policy = tiny_policy()
    longest = max(len(policy.encode(p.prompt)) for p in benchmarks.load("words").problems("train"))
    assert f"prompts of {longest} tokens (the longest of words), responses of 24" in out
    main([*words, "prompt_tokens=100"])
    assert "prompts of 100 tokens (as given)" in capsys.readouterr().out
    main(["plan-memory", "model=Qwen/Qwen2.5-0.5B", "data.benchmark=words", "device=cpu"])
    assert "prompts of 512 tokens (assumed)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["model=no/such-model"], "entrobench prefetch"),
        (["gpus=0"], "whole number of at least 1"),
        (["memory=80"], "with its unit"),
        (["model=Qwen/Qwen3-4B", "train.lr_=1"], "did you mean train.lr"),
    ],
)
def test_bad_words_are_refused(words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-memory", *words]) == 2
    assert remedy in capsys.readouterr().err


def test_a_vocabulary_larger_than_a_chunk_names_the_knob(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path, vocab_size=1_000_000)
    assert main(["plan-memory", f"model={tmp_path}", "train.logits_chunk_mib=2"]) == 2
    assert "train.logits_chunk_mib=4 or more" in capsys.readouterr().err


def test_a_family_whose_layers_are_unknown_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, model_type="mamba")
    with pytest.raises(UserError, match="family 'mamba'"):
        find_shape(str(tmp_path))


def write_config(folder: Path, **changes: Any) -> None:
    sizes = {
        "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(sizes | changes))


def test_a_fetched_model_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    write_config(repository / "snapshots" / "abc")
    assert find_shape("some/model").vocab == 512


# --- before anything is loaded ----------------------------------------------------------------------------


def test_a_model_that_does_not_fit_is_not_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < usable_bytes() <= machine_mib() << 20
    monkeypatch.setattr(machine, "usable_bytes", lambda: 24 << 30)
    big = ("big", "Qwen/Qwen2.5-7B", None)
    with pytest.raises(
        UserError, match=r"in float32 takes 28\.6 GiB .* 24\.0 GiB here; take dtype=bfloat16 or"
    ):
        check_drawing(*big, "auto")
    check_drawing(*big, "bfloat16")
    with pytest.raises(
        UserError, match=r"in bfloat16 takes 24\.4 GiB .* take a smaller engine\.kv_cache_gib or"
    ):
        check_drawing(*big, "bfloat16", 10.0)
    check_drawing("unknown", "nobody/knows-this", None, "float32")  # refused, if at all, by what loads it


def test_a_training_that_does_not_fit_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    config = to_dict(small_run("device=cpu", "eval.batch_rows=8"))
    model = ("small", "Qwen/Qwen2.5-0.5B", None)
    peak = plan_memory(KNOWN["Qwen/Qwen2.5-0.5B"], config, prompt_tokens=1).peak
    monkeypatch.setattr(machine, "usable_bytes", lambda: int(peak) - 1)
    with pytest.raises(
        UserError, match="training 'small' in float32 takes at least .* plan-memory model=small"
    ):
        check_training(*model, config)
    monkeypatch.setattr(machine, "usable_bytes", lambda: int(peak) + 1)
    check_training(*model, config)


def test_both_commands_ask_before_they_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "usable_bytes", lambda: 1 << 20)
    monkeypatch.setattr("harness.run.set_up.load_policy", lambda *_, **__: pytest.fail("was loaded"))
    accept = write_sets(tmp_path / "data", ("aime24",))
    commands = (
        ["train", "method=grpo", "model.path=micro", "data.benchmark=micro", f"runs_dir={tmp_path / 'runs'}",
         "device=cpu"],
        ["eval", f"model={tiny_folder()}", "benchmark=aime24", f"data_dir={tmp_path / 'data'}", "n=2",
         f"accept_data={accept}", f"out={tmp_path / 'out'}", "device=cpu"],
    )  # fmt: skip
    for command in commands:
        assert main(command) != 0
        err = capsys.readouterr().err
        told = [line for line in err.splitlines() if "GiB of memory" in line]
        assert len(told) == 1 and "Traceback" not in err
    assert not list(tmp_path.glob("runs/*/metrics.jsonl")) and not list(tmp_path.glob("out/*/record.json"))


# --- sweeps -----------------------------------------------------------------------------------------------


def notes(sweep_file: Callable[..., Path], **changes: Any) -> list[str]:
    from harness.cli.memory import sweep_notes

    body: dict[str, Any] = {
        "models": ["Qwen/Qwen2.5-Math-1.5B"], "launcher": "slurm",
        "slurm": {"gpus": 1, "gpu_memory": "80G"},
        "settings": {"rollout": {"max_response_tokens": 1024, "prompts_per_step": 32}, "eval.batch_rows": 128,
                     "train.micro_batch_rows": 2},
    }  # fmt: skip
    sweep = load_sweep(sweep_file(**body | changes))
    return sweep_notes(sweep, plan(sweep, Runs()))


def test_a_sweep_that_fits_says_so_and_one_that_does_not_warns(sweep_file: Callable[..., Path]) -> None:
    (line,) = notes(sweep_file)
    assert line.startswith("memory of Qwen/Qwen2.5-Math-1.5B/default: ") and "(estimated)" in line
    warned = notes(sweep_file, slurm={"gpus": 1, "gpu_memory": "24G"})
    assert warned[0].startswith("WARNING: ") and "does not fit" in warned[1] and "plan-memory" in warned[2]
    assert "slurm.gpu_memory" in notes(sweep_file, slurm={"gpus": 1})[0]
    assert "not known here" in notes(sweep_file, models=["some/model"])[0]
    assert notes(sweep_file, slurm={"gpus": 0}) == []
