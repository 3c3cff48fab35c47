"""What ``rollout.engine``, ``lag`` and ``correction`` may be together, and with which methods. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.rollout.engines import vllm
from harness.rollout.engines.base import check_options, option_value
from harness.rollout.engines.vllm_engine import VllmEngine
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.config.schema import RunConfig
    from harness.stages.base import Stage

BUILTIN = "builtin"
#: Options of an engine that a run already says by other settings.
_OF_RUN = {
    "revision": "model.revision",
    "device": "device",
    "logp_temperature": "rollout.temperature",
}


def corrects(run: RunConfig) -> bool:
    """Whether the run weighs tokens by truncated importance weights (:mod:`harness.train.off_policy`)."""
    return compares(run) and run.rollout.correction == "truncated"


def compares(run: RunConfig) -> bool:
    """Whether the policy that samples may differ from the one that ratios divide by."""
    return run.rollout.engine != BUILTIN or run.rollout.lag > 0


def scores_when_sampled(run: RunConfig) -> bool:
    """Whether the old pass is taken with the weights that sampled, before rollouts wait."""
    return bool(run.rollout.lag) and run.rollout.ratio_to == "sampling"


def engine_options(run: RunConfig) -> dict[str, Any]:
    """``rollout.engine_settings`` as the engine's options, checked.

    Raises:
        UserError: not a setting, not an option of this engine, or one that another setting decides.
    """
    options: dict[str, Any] = {}
    for word in run.rollout.engine_settings:
        key, sign, value = word.partition("=" if "=" in word else ":")
        if not sign:
            raise UserError(
                f"'{word}' in rollout.engine_settings is not a setting; write e.g. "
                "[gpu_memory:0.4,batch_rows:64]"
            )
        options[key.strip()] = option_value(value.strip())
    for key in options:
        if key in _OF_RUN:
            raise UserError(f"rollout.engine_settings: {key} follows {_OF_RUN[key]}; set that instead")
    accepts_untested(options)
    check_options(run.rollout.engine, options)
    if options.get("gpus", 1) != 1:
        raise UserError(
            "rollout.engine_settings: gpus must be 1, since each process of a run samples on its own GPU; "
            "start more processes instead"
        )
    return options


def context_of(run: RunConfig, model: int | None) -> int | None:
    """Tokens of a prompt with its response at most: the model's, or fewer that the run's engine is given.

    Args:
        model: the model's own context; None where it has no limit.
    """
    own = None if run.rollout.engine == BUILTIN else engine_options(run).get("max_positions")
    return min((int(n) for n in (model, own) if n), default=None)


def accepts_untested(options: dict[str, Any]) -> bool:
    """Take ``untested_version`` out of ``options``; whether it is there and true.

    Raises:
        UserError: it is neither true nor false.
    """
    value = options.pop("untested_version", False)
    if not isinstance(value, bool):
        raise UserError(f"rollout.engine_settings: untested_version must be true or false, not '{value}'")
    return value


def check_rollouts(run: RunConfig) -> None:
    """Refuse what makes no sense, from the configuration and the method's stages alone.

    Raises:
        UserError: names the remedy.
    """
    rollout = run.rollout
    if rollout.engine == BUILTIN and rollout.engine_settings:
        raise UserError(
            "rollout.engine_settings are of another engine; leave them out, or write rollout.engine=vllm"
        )
    if rollout.ratio_to != "sampling" and not rollout.lag:
        raise UserError(
            "rollout.ratio_to=update changes nothing while rollouts do not wait; leave it out, or set "
            "rollout.lag"
        )
    default = type(rollout)()
    for name in ("correction", "correction_cap"):
        value = getattr(rollout, name)
        if value != getattr(default, name) and not compares(run):
            raise UserError(
                f"rollout.{name}={value} changes nothing: the built-in sampler without a lag is the policy "
                "itself; leave it out, or set rollout.engine or rollout.lag"
            )
    if rollout.correction == "none" and rollout.correction_cap != default.correction_cap:
        raise UserError("rollout.correction_cap changes nothing with rollout.correction=none; leave it out")
    if rollout.lag and rollout.lag >= run.train.steps:
        raise UserError(
            f"rollout.lag={rollout.lag} with train.steps={run.train.steps} would sample everything before "
            "the first update; lower the lag or raise the steps"
        )
    if not compares(run):
        return
    if rollout.engine != BUILTIN:
        engine_options(run)
        if not 0.01 <= rollout.temperature <= 2:
            raise UserError(
                f"vllm draws at temperatures from 0.01 to 2, not at {rollout.temperature:g}; change "
                "rollout.temperature, or rollout.engine=builtin"
            )
    check_stages(run, run.method.stages().of_step())


def check_stages(run: RunConfig, stages: Iterable[Stage]) -> None:
    """Refuse a method whose stages need what this run's rollouts do not offer.

    Raises:
        UserError: names the remedy.
    """
    stages, rollout, name = list(stages), run.rollout, run.method_name
    missing = frozenset().union(*(s.engine_needs for s in stages)) - capabilities(run)
    if missing:
        words, who = ", ".join(sorted(missing)), f"method '{name}'"
        if rollout.engine == BUILTIN:
            raise UserError(
                f"{who} needs {words}, which the built-in sampler does not offer; choose another method or "
                "engine"
            )
        if missing == {"temperature"}:
            raise UserError(
                f"{who} samples at several temperatures, for which {rollout.engine} gives log-probs only "
                f"with rollout.temperature=1 (here {rollout.temperature:g}); set that, or "
                "rollout.engine=builtin"
            )
        raise UserError(
            f"{who} needs {words}, which {rollout.engine} does not offer; use rollout.engine=builtin"
        )
    if corrects(run) and any(s.corrects_rollouts for s in stages):
        raise UserError(
            f"method '{name}' weighs its rollouts by the log-probs they were sampled with itself; a second "
            "correction would count twice: write rollout.correction=none for it"
        )
    if rollout.lag and any(s.needs_fresh_rollouts for s in stages):
        raise UserError(
            f"method '{name}' trains with what sampling left behind in the same step, so its rollouts cannot "
            "wait; write rollout.lag=0 for it"
        )


def capabilities(run: RunConfig) -> frozenset[str]:
    """What the run's engine offers to rollout programs."""
    if run.rollout.engine == BUILTIN:
        from harness.rollout.sampler import CAPABILITIES

        return CAPABILITIES
    offered = VllmEngine.capabilities
    return offered if run.rollout.temperature == 1 else offered - {"temperature"}


def check_installed(run: RunConfig) -> None:
    """Refuse an engine that is not installed here, or in a version that was never tested.

    Raises:
        UserError: names what to install.
    """
    if run.rollout.engine == BUILTIN:
        return
    if why := vllm.unusable():
        raise UserError(f"rollout.engine=vllm: {why}; or write rollout.engine=builtin")
    found, tested = vllm.installed_version(), ", ".join(vllm.TESTED)
    words = [word.replace("=", ":").replace(" ", "") for word in run.rollout.engine_settings]
    if found not in vllm.TESTED and "untested_version:true" not in [word.lower() for word in words]:
        raise UserError(
            f"rollout.engine=vllm: version {found} was never tested with entrobench; install {tested}, or "
            "accept it with rollout.engine_settings=[untested_version:true]"
        )
