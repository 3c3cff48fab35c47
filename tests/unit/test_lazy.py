"""Plans do not load torch, are the same as with torch, and what is used of it later is the real thing."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from harness.util.lazy import is_loaded, load_when_used
from tests.helpers.scripts import run_python

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
    import json, sys
    from pathlib import Path
    from harness.util.lazy import is_loaded, load_when_used
    if sys.argv[2] == "torch":
        import torch
    load_when_used("torch")
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import make_plan
    from harness.sweep.spec import load_sweep
    sweep, backend = load_sweep(Path(sys.argv[1])), Runs()
    try:
        jobs = [[job.run_id, job.config] for job in make_plan(sweep, backend)]
    except Exception as error:
        jobs = [str(error)]
    imported = is_loaded("torch")
    if sys.argv[2] == "plan":
        print(json.dumps({"jobs": jobs, "imported": imported}))
        raise SystemExit
    from harness.registry.methods import load
    from harness.stages.loss import clipped_surrogate
    import torch
    grpo = load("grpo")
    stages = grpo().stages()
    print(json.dumps({"jobs": jobs, "imported": imported, "tensor": str(torch.ones(2).sum()),
                      "loss": type(stages.loss).__module__}))
"""
SWEEP = """
methods: [{methods}]
seeds: [1, 2]
settings: {{train: {{steps: 3, minibatches: 2}}}}
"""
METHOD = """
    from __future__ import annotations
    from dataclasses import dataclass
    import torch
    from entrobench import hp, register
    from methods.grpo import GRPO

    {before}

    def formula(x: torch.Tensor, kind: torch.Tensor | None = None) -> torch.Tensor:
        with torch.no_grad():
            return torch.nn.functional.relu(x)

    @register("own")
    @dataclass(frozen=True)
    class Own(GRPO):
        knob: float = hp({default}, "a number", ge=0)
        def validate(self, run):
            super().validate(run)
            {check}
"""


def _plan(folder: Path, methods: str, mode: str) -> dict[str, object]:
    (folder / "s.yaml").write_text(SWEEP.format(methods=methods))
    (folder / "script.py").write_text(textwrap.dedent(SCRIPT))
    done = run_python(folder / "script.py", "s.yaml", mode, cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _write(folder: Path, before: str = "", default: str = "0.5", check: str = "") -> None:
    text = textwrap.dedent(METHOD).format(before=before, default=default, check=check or "pass")
    (folder / "own.py").write_text(text)


def test_a_plan_of_all_methods_imports_no_torch_and_is_the_same(tmp_path: Path) -> None:
    from harness.registry.methods import entries

    methods = ", ".join(entries())
    quick, full = (_plan(tmp_path, methods, mode) for mode in ("", "torch"))
    assert quick["imported"] is False
    assert quick["jobs"] == full["jobs"] and len(quick["jobs"]) == 1 + 2 * len(entries())  # type: ignore[arg-type]
    # what is imported afterwards is the real thing
    assert quick["tensor"] == "tensor(2.)" and quick["loss"] == "harness.stages.loss"


@pytest.mark.parametrize(
    ("parts", "needs_torch"),
    [
        ({}, False),
        ({"default": "float(torch.tensor(0.25))"}, True),
        ({"before": "LIMIT = [1.0 * x for x in torch.arange(3).tolist()]"}, True),
        ({"default": "torch.pi"}, True),
        ({"before": "from torch import Tensor"}, True),
        ({"before": "import torch.nn.functional as F"}, True),
        ({"before": "class Op(torch.autograd.Function): pass"}, True),
        ({"check": "assert torch.finfo(torch.float32).max > 1"}, True),
    ],
)
def test_a_method_that_needs_a_value_of_torch_gets_it(
    tmp_path: Path, parts: dict[str, str], needs_torch: bool
) -> None:
    _write(tmp_path, **parts)
    quick = _plan(tmp_path, "own.py", "plan")
    assert quick["imported"] is needs_torch
    assert len(quick["jobs"]) == 3  # type: ignore[arg-type]


def test_a_complaint_is_the_one_that_a_run_would_make(tmp_path: Path) -> None:
    _write(tmp_path, check='raise ValueError(f"no {torch.float16} here")')
    assert _plan(tmp_path, "own.py", "plan")["jobs"] == ["no torch.float16 here"]


def test_a_package_that_fails_to_load_says_why_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_package.py").write_text(
        "import os\nif os.environ.get('BROKEN'): raise OSError('no driver')\nsize = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BROKEN", "1")
    load_when_used("heavy_package")
    import heavy_package  # type: ignore[import-not-found]

    assert not is_loaded("heavy_package")
    with pytest.raises(OSError, match="no driver"):
        heavy_package.size  # noqa: B018
    monkeypatch.delenv("BROKEN")
    import heavy_package as again  # type: ignore[import-not-found]

    assert again.size == 3 and is_loaded("heavy_package")
    del sys.modules["heavy_package"]
