"""Models besides the policy that a method's hyper-parameters name: where they are, and that they fit it.

A value is a hub id, a folder, the name of a model that a benchmark ships, :data:`BASE` or :data:`AUTO`.
Imports no torch before a model is opened: plans use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from harness.model.source import resolve_model
from harness.registry import benchmarks
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.config.schema import RunConfig
    from harness.model.policy import Policy
    from harness.stages.base import Stages

#: The policy itself as it was before training.
BASE = "base"
#: The model that is shipped as ``<model.path>-expert``.
AUTO = "auto"


def named(method: Any, prefix: str = "method.") -> Iterator[tuple[str, str]]:
    """Hyper-parameters that name a model, those of a composition's parts too, each with its value."""
    for f in fields(method) if is_dataclass(method) else ():
        value = getattr(method, f.name)
        if f.metadata.get("names_model"):
            yield prefix + f.name, value
        elif is_dataclass(value):
            yield from named(value, f"{prefix}{f.name}.")


def second_model_path(run: RunConfig, key: str, name: str) -> str | None:
    """Where the model ``name`` is: a folder or a hub id; None for the policy itself.

    Args:
        key: the hyper-parameter that names it, for the message: ``method.expert``.

    Raises:
        UserError: there is none of this name, or none is shipped with this policy.
    """
    if name == BASE:
        return None
    shipped = benchmarks.shipped_models()
    if name == AUTO:
        name = f"{run.model.path}-expert"
        if name not in shipped:
            raise UserError(
                f"no expert is shipped for model.path={run.model.path}; write {key}=<hub id or folder of a "
                "stronger model with the same tokenizer>"
            )
    try:
        return resolve_model(name, shipped)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def second_model_paths(run: RunConfig) -> dict[str, str]:
    """Where the models besides the policy are, by hyper-parameter; without :data:`BASE`."""
    places = {key: second_model_path(run, key, name) for key, name in named(run.method)}
    return {key: place for key, place in places.items() if place is not None}


def held_beside(run: RunConfig) -> dict[str, tuple[str, str | None]]:
    """Place and revision of every model that is held beside the policy, by hyper-parameter; its copy, too."""
    own = resolve_model(run.model.path, benchmarks.shipped_models()), run.model.revision
    places = {key: second_model_path(run, key, name) for key, name in named(run.method)}
    return {key: own if place is None else (place, None) for key, place in places.items()}


def second_models(run: RunConfig, policy: Policy, stages: Stages) -> dict[str, Policy]:
    """The models that a rollout program may draw with, by their names; loaded before the first step.

    Raises:
        UserError: a model that is missing, or has another tokenizer than ``policy``.
    """
    if not any("mixture" in stage.engine_needs for stage in stages.of_step()):
        return {}
    return {name: _opened(run, policy, key, name) for key, name in named(run.method)}


def _opened(run: RunConfig, policy: Policy, key: str, name: str) -> Policy:
    from harness.model.policy import load_policy

    place = second_model_path(run, key, name)
    if place is None:
        return policy.frozen_copy()
    compute = run.model.compute_dtype
    other = load_policy(
        place, dtype=run.model.dtype if compute == "same" else compute, device=policy.device.type,
        temperature=policy.temperature, attention=run.model.attention,
    )  # fmt: skip
    check_same_tokens(policy, other, f"{key}={name}")
    if other.max_positions and other.max_positions <= run.rollout.max_response_tokens:
        raise UserError(
            f"{key}={name} has a context of {other.max_positions} tokens, which a response of "
            f"rollout.max_response_tokens={run.rollout.max_response_tokens} fills; lower it or name another"
        )
    other.model.requires_grad_(False)
    return other


def check_same_tokens(policy: Policy, other: Policy, what: str) -> None:
    """Refuse a second model whose token ids mean something else.

    Args:
        what: names the model in the message.

    Raises:
        UserError: names the first difference.
    """
    own, theirs = policy.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if own != theirs:
        apart = sorted(token for token, _ in own.items() ^ theirs.items())
        raise UserError(
            f"{what} has another tokenizer than the policy ({len(theirs)} and {len(own)} tokens, first "
            f"difference {apart[0]!r}); name a model of the policy's family"
        )
    if policy.vocabulary != other.vocabulary and min(policy.vocabulary, other.vocabulary) < len(own):
        raise UserError(f"{what} has fewer embeddings than its tokenizer has tokens; name another model")
