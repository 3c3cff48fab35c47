"""Plans do not load torch, are the same as with torch, and what is used of it later is the real thing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.util.lazy import is_loaded, load_when_used
from tests.helpers.scripts import environment, run_python

Planned = Callable[[Path], dict[str, object]]
SCRIPT = """
    import json, sys
    from pathlib import Path
    from harness.util.lazy import is_loaded, load_when_used
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
#: A process that plans in forks of itself, one for each folder that it is told. It has loaded torch and put
#: it aside: the first use of it in a fork runs the package as ever, and finds what is in it already made.
PLANNER = """
    import gc, importlib.abc, importlib.util, os, sys
    import torch
    aside = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torch"}
    for name in aside:
        del sys.modules[name]

    class Aside(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path=None, target=None):
            return importlib.util.spec_from_loader(name, self, is_package=True) if name == "torch" else None
        def exec_module(self, module):
            own = {"__spec__", "__loader__", "__name__"}
            vars(module).update({k: v for k, v in vars(aside["torch"]).items() if k not in own})
            sys.modules.update({name: there for name, there in aside.items() if name != "torch"})

    sys.meta_path.insert(0, Aside())
    del torch
    from harness.util.lazy import is_loaded, load_when_used
    load_when_used("torch")
    import harness.sweep.jobs, harness.sweep.plan, harness.sweep.spec, methods.grpo
    assert not is_loaded("torch")
    gc.freeze()
    for folder in map(str.strip, sys.stdin):
        if os.fork() == 0:
            os.chdir(folder)
            os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT), 1)
            sys.argv = ["script.py", "s.yaml", "plan"]
            try:
                exec(compile(open("script.py").read(), "script.py", "exec"), {"__name__": "__main__"})
            except SystemExit:  # it has said the plan: there is no need to take torch down
                sys.stdout.flush()
                os._exit(0)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
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


@pytest.fixture(scope="module")
def planned() -> Iterator[Planned]:
    """Plans the sweep of a folder's ``own.py``, in a process in which torch is not loaded yet."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PLANNER)], env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None

    def plan(folder: Path) -> dict[str, object]:
        _prepare(folder, "own.py")
        print(folder, file=process.stdin, flush=True)
        assert process.stdout.readline().strip() == "0"
        return dict(json.loads((folder / "said").read_text().splitlines()[-1]))

    yield plan
    assert process.communicate(timeout=60)[1] == ""


def _prepare(folder: Path, methods: str) -> None:
    (folder / "s.yaml").write_text(SWEEP.format(methods=methods))
    (folder / "script.py").write_text(textwrap.dedent(SCRIPT))


def _plan(folder: Path, methods: str) -> dict[str, object]:
    _prepare(folder, methods)
    done = run_python(folder / "script.py", "s.yaml", "all", cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _write(folder: Path, before: str = "", default: str = "0.5", check: str = "") -> None:
    text = textwrap.dedent(METHOD).format(before=before, default=default, check=check or "pass")
    (folder / "own.py").write_text(text)


def test_a_plan_of_all_methods_imports_no_torch_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.registry.methods import entries
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import make_plan
    from harness.sweep.spec import load_sweep

    quick = _plan(tmp_path, ", ".join(entries()))
    assert quick["imported"] is False
    assert is_loaded("torch") and torch.ones(1)  # here it is, and the same is planned
    monkeypatch.chdir(tmp_path)
    full = [[job.run_id, job.config] for job in make_plan(load_sweep(Path("s.yaml")), Runs())]
    assert quick["jobs"] == json.loads(json.dumps(full)) and len(full) == 1 + 2 * len(entries())
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
    tmp_path: Path, parts: dict[str, str], needs_torch: bool, planned: Planned
) -> None:
    _write(tmp_path, **parts)
    quick = planned(tmp_path)
    assert quick["imported"] is needs_torch
    assert len(quick["jobs"]) == 3  # type: ignore[arg-type]


def test_a_complaint_is_the_one_that_a_run_would_make(tmp_path: Path, planned: Planned) -> None:
    _write(tmp_path, check='raise ValueError(f"no {torch.float16} here")')
    assert planned(tmp_path)["jobs"] == ["no torch.float16 here"]


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
