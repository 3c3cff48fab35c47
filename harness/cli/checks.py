"""``entrobench check`` and ``entrobench doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import UserError


def golden(folder: str) -> int:
    """Replay every golden case under ``folder``; exit code 1 on any difference."""
    if not Path(folder).is_dir():
        raise UserError(f"no folder {folder}")
    from harness.golden import main

    return int(main(Path(folder)))


def grading(file: str, name: str) -> int:
    """Run the conformance cases of ``file``; exit code 1 under 99 % right or on a late or crashed case."""
    from harness.grading import GRADERS, Grader, conformance
    from harness.grading.grader import default_workers

    with Grader(name, workers=default_workers()) as grader:
        if not GRADERS[name].symbolic:
            names = ", ".join(kind.name for kind in GRADERS.values() if kind.symbolic)
            raise UserError(f"grader '{name}' follows a rule of its own; conformance cases are for {names}")
        cases = conformance.load(Path(file))
        print(f"{grader.version}: {len(cases)} cases of {file}")
        if GRADERS[name].boxed_only:
            cases = [case for case in cases if case.format == "boxed"]
            print(f"this grader reads boxes only: scored on the {len(cases)} cases that hold one")
        outcomes = conformance.run(cases, grader, threads=default_workers())
    print("\n".join(conformance.report(outcomes)))
    good = conformance.passed(outcomes)
    print("passed" if good else "FAILED")
    return 0 if good else 1


def doctor() -> int:
    """What this installation has, and what each missing part is needed for."""
    from importlib import import_module

    import torch

    from harness import catalog
    from harness.engines import ENGINES

    lines = [f"entrobench {_version('entrobench')}, Python {platform.python_version()}"]
    lines += [f"{name} {_version(name)}" for name in ("torch", "transformers", "hydra-core", "submitit")]
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: device=auto uses the CPU"
    lines.append(f"accelerator: {device}")
    lines.append(f"CPU cores: {os.cpu_count()}")
    lines.append(f"methods: {len(catalog.methods().entries())}")
    for name, model in catalog.benchmarks().shipped_models().items():
        there = (model / "model.safetensors").exists()
        lines.append(f"shipped model {name}: {'there' if there else 'MISSING in ' + str(model)}")
    for name, module in ENGINES.items():
        lines.append(f"engine {name}: {import_module(module).status()}")
    lines.append(f"slurm: {'there' if shutil.which('sbatch') else 'no sbatch; use launcher=local'}")
    print("\n".join(lines))
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
