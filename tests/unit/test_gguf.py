"""GGUF files become folders whose models compute what the file says, or are refused in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.cli import main
from harness.evaluation.model import find_weights
from harness.model.gguf import convert as converting
from harness.model.gguf.cache import folder_of
from harness.model.gguf.convert import convert, file_hash
from harness.model.gguf.header import read_header
from harness.model.policy import load_policy
from harness.model.source import model_fingerprint, resolve_model
from harness.util.errors import UserError
from tests.helpers.gguf_files import file_name, tiny_model, write_model

ARCHITECTURES = ("llama", "qwen2", "gemma3")
IDS = torch.tensor([[5, 17, 3, 88, 41, 2, 60, 11, 9, 33, 71, 25]])  # longer than Gemma's window


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.fixture(scope="module", params=ARCHITECTURES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """Architecture, model, and the folder of the model's float32 file."""
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny_model(request.param)
    write_model(folder / "model.gguf", model, request.param)
    convert(folder / "model.gguf", folder / "out")
    return request.param, model, folder / "out"


def test_every_weight_is_the_models(made: tuple[str, Any, Path]) -> None:
    architecture, model, folder = made
    written = load_file(folder / "model.safetensors")
    expected = {
        k: v for k, v in model.state_dict().items() if not (k == "lm_head.weight" and k not in written)
    }
    assert set(written) == set(expected)
    for name, value in expected.items():
        if architecture == "gemma3" and "norm" in name:  # the file holds 1 more, rounded
            value = (value + 1) - 1
        assert torch.equal(written[name], value), name
    assert ("lm_head.weight" in written) == (not model.config.tie_word_embeddings)


def test_logits_are_the_models(made: tuple[str, Any, Path]) -> None:
    architecture, model, folder = made
    policy = load_policy(folder)
    assert type(policy.model) is type(model)
    own, new = logits(model), logits(policy.model)
    assert own.std() > 0.1
    assert torch.allclose(new, own, atol=2e-4 if architecture == "gemma3" else 0, rtol=0)


def test_special_tokens_and_template_come_from_the_file(made: tuple[str, Any, Path]) -> None:
    policy = load_policy(made[2])
    assert (policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id, policy.pad_id) == (93, 94, 95)
    assert policy.eos_ids == (94,)
    assert policy.tokenizer.unk_token == "<unk>"
    said = policy.tokenizer.apply_chat_template([{"role": "user", "content": "two"}], tokenize=False)
    assert said == "two"


def test_a_saved_folder_is_read_again(made: tuple[str, Any, Path], tmp_path: Path) -> None:
    first = load_policy(made[2])
    first.save(tmp_path / "again")
    second = load_policy(tmp_path / "again")
    assert torch.equal(logits(first.model), logits(second.model))
    assert second.encode("<t1><t2>") == first.encode("<t1><t2>")
    assert second.eos_ids == first.eos_ids
    assert second.tokenizer.chat_template == first.tokenizer.chat_template


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_quantised_matrices_are_what_gguf_makes_of_them(architecture: str, kind: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    write_model(tmp_path / "m.gguf", model, architecture, kind)
    ready = convert(tmp_path / "m.gguf", tmp_path / "out")
    assert ready.quantisation == kind
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 2:
                value.copy_(unquantised(value, kind))
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in model.state_dict().items():
        if value.dim() == 2 and name in written:
            assert torch.equal(written[name], value), name
    assert torch.allclose(logits(load_policy(tmp_path / "out").model), logits(model), atol=2e-4, rtol=0)


def unquantised(value: torch.Tensor, kind: str) -> torch.Tensor:
    number = gguf.GGMLQuantizationType[kind]
    return torch.from_numpy(gguf.dequantize(gguf.quantize(value.numpy(), number), number))


def test_blocks_of_k_quants(tmp_path: Path) -> None:
    """The package cannot write Q4_K, so the blocks are any bits with small scales."""
    model = tiny_model("qwen2")
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_K]
    random = np.random.default_rng(3)
    packed: dict[tuple[int, ...], list[np.ndarray]] = {}

    def blocks(value: np.ndarray) -> np.ndarray:
        bits = random.integers(0, 256, (value.shape[0], value.shape[1] // block, size), dtype=np.uint8)
        bits[..., :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)
        flat: np.ndarray = bits.reshape(value.shape[0], -1)
        packed.setdefault(value.shape, []).append(flat)
        return flat

    write_model(tmp_path / "m.gguf", model, "qwen2", "Q4_K", {"general.file_type": 15}, quantise=blocks)
    assert convert(tmp_path / "m.gguf", tmp_path / "out").quantisation == "Q4_K_M"
    written = load_file(tmp_path / "out" / "model.safetensors")
    first = gguf.dequantize(packed[(96, 256)][0], gguf.GGMLQuantizationType.Q4_K)
    assert np.array_equal(written["model.embed_tokens.weight"].numpy(), first)
    assert first.std() > 0.01


def test_the_head_is_read_as_the_gguf_package_reads_it(tmp_path: Path) -> None:
    write_model(
        tmp_path / "m.gguf", tiny_model("gemma3"), "gemma3", "Q8_0", {"general.languages": ["en", "ä"]}
    )
    ours, theirs = read_header(tmp_path / "m.gguf"), gguf.GGUFReader(tmp_path / "m.gguf")
    values = {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert dict(ours.metadata) == values
    places = {
        t.name: (tuple(reversed(t.shape.tolist())), int(t.tensor_type), t.data_offset) for t in theirs.tensors
    }
    assert {n: (p.shape, p.kind, p.offset) for n, p in ours.tensors.items()} == places


def test_biases_of_llama_and_linear_rope(tmp_path: Path) -> None:
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    model = tiny_model("llama", attention_bias=True, mlp_bias=True, rope_parameters=rope)
    more = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    write_model(tmp_path / "m.gguf", model, "llama", metadata=more)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    assert torch.equal(logits(load_policy(tmp_path / "out").model), logits(model))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_types_round_as_torch_does(dtype: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    write_model(tmp_path / "m.gguf", model, "llama")
    assert main(["import-gguf", str(tmp_path / "m.gguf"), str(tmp_path / "out"), f"dtype={dtype}"]) == 0
    for name, value in load_file(tmp_path / "out" / "model.safetensors").items():
        assert torch.equal(value, model.state_dict()[name].to(getattr(torch, dtype))), name


def test_several_ends_are_all_kept(tmp_path: Path) -> None:
    write_model(
        tmp_path / "m.gguf", tiny_model("llama"), "llama", metadata={"tokenizer.ggml.eot_token_id": 91}
    )
    convert(tmp_path / "m.gguf", tmp_path / "out")
    assert load_policy(tmp_path / "out").eos_ids == (91, 94)


def test_a_file_is_converted_once_and_its_fingerprint_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("a.gguf", "b.gguf"):
        write_model(tmp_path / name, tiny_model("llama"), "llama", "Q4_1")
    folder = resolve_model(str(tmp_path / "a.gguf"), {})
    assert "converting" in capsys.readouterr().err
    assert resolve_model(str(tmp_path / "b.gguf"), {}) == folder  # the same bytes under another name
    assert capsys.readouterr().err == ""
    label = find_weights(str(tmp_path / "a.gguf"), None, {})
    assert (label.label, label.path) == ("a", folder)
    assert model_fingerprint(folder, None).endswith(" (dequantised from Q4_1)")
    write_model(tmp_path / "a.gguf", tiny_model("llama"), "llama", "Q8_0")
    assert folder_of(tmp_path / "a.gguf") != Path(folder)


def test_other_folders_keep_their_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "notes.md").write_text("not counted")
    assert model_fingerprint(str(tmp_path), None) == "3f117ffbac15cf6a"


def test_equal_files_make_equal_folders(tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf", tiny_model("qwen2"), "qwen2", "Q4_0")
    for name in ("one", "two"):
        convert(tmp_path / "m.gguf", tmp_path / name)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file_hash(file) == file_hash(tmp_path / "two" / file.name)
    assert json.loads((tmp_path / "one" / "config.json").read_text())["eos_token_id"] == 94


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "setting": ({"llama.expert_count": 8}, "the setting expert_count=8"),
    "missing setting": ({"llama.block_count": None}, "block_count is missing"),
    "rope": ({"llama.rope.scaling.type": "yarn"}, "rope scaling 'yarn'"),
    "partial rotary": ({"llama.rope.dimension_count": 32}, "rope.dimension_count is 32"),
    "layers": ({"llama.block_count": 3}, "no tensor blk.2.attn_q.weight"),
    "fewer layers": ({"llama.block_count": 1}, "9 tensors of this llama are not supported, e.g. blk.1."),
    "width": ({"llama.feed_forward_length": 300}, r"blk.0.ffn_gate.weight has the shape \[512, 256\]"),
    "no vocabulary": ({"tokenizer.ggml.tokens": None}, "holds no vocabulary"),
    "tokenizer": ({"tokenizer.ggml.model": "rwkv"}, "kind 'rwkv'"),
    "pieces": ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "odd"}, "the way 'odd'"),
    "end token": ({"tokenizer.ggml.eos_token_id": 500}, "the eos token is 500 of 96"),
    "types": ({"tokenizer.ggml.token_type": [1, 1]}, "2 token types for 96 tokens"),
    "twice": ({"tokenizer.ggml.tokens": ["a"] * 96}, "a token comes twice"),
    "scores": ({"tokenizer.ggml.scores": None}, "without scores"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused(case: str, tmp_path: Path) -> None:
    metadata, told = REFUSED[case]
    write_model(tmp_path / "m.gguf", tiny_model("llama"), "llama", metadata=metadata)
    refused(tmp_path, told)


def refused(folder: Path, told: str) -> None:
    """The conversion fails in one line, and leaves nothing behind."""
    before = set(folder.iterdir())
    with pytest.raises(UserError, match=told) as caught:
        convert(folder / "m.gguf", folder / "out")
    assert "\n" not in str(caught.value)
    assert set(folder.iterdir()) == before


def test_another_architecture(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(tmp_path, "architecture 'mamba'.*known are gemma3, llama, qwen2")


def test_unknown_quantisation_and_a_tensor_more(tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf", tiny_model("llama"), "llama", "Q8_0")
    whole = (tmp_path / "m.gguf").read_bytes()
    name = b"blk.0.ffn_up.weight"
    at = whole.index(name) + len(name) + 4 + 16
    for kind, told in ((9, "quantisation Q8_1"), (77, "quantisation type 77")):
        (tmp_path / "m.gguf").write_bytes(whole[:at] + kind.to_bytes(4, "little") + whole[at + 4 :])
        refused(tmp_path, told)
    (tmp_path / "m.gguf").write_bytes(whole.replace(name, b"blk.0.ffn_xx.weight"))
    refused(tmp_path, "no tensor blk.0.ffn_up.weight")


@pytest.mark.parametrize("part", [0.999, 0.5, 0.004, 0.0005])
def test_a_file_that_is_cut_off(part: float, tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf", tiny_model("llama"), "llama")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[: int(len(whole) * part)])
    refused(tmp_path, "cut off.*fetch it again")


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, told in (
        (b"", "not a GGUF"),
        (b"PK\3\4zip", "not a GGUF"),
        (b"GGUF\0\0\0\3" + b"\0" * 40, "byte order"),
    ):
        (tmp_path / "m.gguf").write_bytes(content)
        refused(tmp_path, told)
    assert main(["import-gguf", str(tmp_path / "none.gguf"), str(tmp_path / "out")]) == 2
    assert "give the path of a GGUF file" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no file"):
        resolve_model(str(tmp_path / "none.gguf"), {})


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 7] = float("nan")
    write_model(tmp_path / "m.gguf", model, "llama")
    refused(tmp_path, "blk.1.ffn_up.weight holds NaN")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("full", "1 GB are free|0.0 GB are free"),
        ("memory", "1024 MiB of memory and 5 MiB are free"),
        ("package", r"pip install 'entrobench\[gguf\]'"),
    ],
)
def test_too_little_room_or_no_package(
    change: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "m.gguf", tiny_model("llama"), "llama")
    if change == "full":
        monkeypatch.setattr(converting.shutil, "disk_usage", lambda place: FreeBytes(1 << 20))
    elif change == "memory":
        monkeypatch.setattr(converting, "_free_memory", lambda: 5 << 20)
    else:
        monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    refused(tmp_path, told)


class FreeBytes:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_folder_that_holds_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "m.gguf", tiny_model("llama"), "llama")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["import-gguf", str(tmp_path / "m.gguf"), str(tmp_path / "out")]) == 2
    assert "is there already; give a new folder" in capsys.readouterr().err
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]
    for words, told in (
        (["dtype=int8"], "dtype=int8"),
        (["fast"], "not key=value"),
        (["dtyp=x"], "did you mean dtype"),
    ):
        assert main(["import-gguf", str(tmp_path / "m.gguf"), str(tmp_path / "new"), *words]) == 2
        assert told in capsys.readouterr().err


def test_names_of_the_helper_cover_the_model() -> None:
    names: Mapping[str, str] = {n: file_name(n, "gemma3") for n in tiny_model("gemma3").state_dict()}
    assert len(set(names.values())) == len(names)
