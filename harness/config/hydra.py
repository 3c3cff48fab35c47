"""Override strings in Hydra's grammar -> plain values: what Hydra's ``compose`` gives, without its cost.

A plan resolves a thousand runs whose overrides are mostly the same few assignments. Each distinct one is
parsed by Hydra and converted by OmegaConf once; a run is then its defaults with the converted values put in.
Whatever is not a plain assignment, or fails, goes through :func:`compose` itself, which also words the
complaints.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

from harness.util.errors import UserError

#: Not a plain assignment of a value: Hydra's own composition has to say what it means.
_UNUSUAL = object()


def resolve(overrides: Sequence[str], root: type, method: type) -> dict[str, Any]:
    """The dataclass ``root`` with a node ``method`` of the dataclass ``method``, after ``overrides``.

    Args:
        overrides: Hydra override grammar; ``method=<name>`` must have been taken out.

    Raises:
        UserError: not an override, no such key, or a value of the wrong type.
    """
    raw: dict[str, Any] = {**deepcopy(_defaults(root)), "method": deepcopy(_defaults(method))}
    for text in overrides:
        # most settings are of no method, so that all methods share what was converted
        own = text.startswith("method.")
        found = _assignment(text.removeprefix("method."), method) if own else _assignment(text, root)
        if found is _UNUSUAL:
            return compose(overrides, root, method)
        *sections, leaf = found[0]
        node = raw["method"] if own else raw
        for section in sections:
            node = node[section]
        node[leaf] = deepcopy(found[1])
    return raw


def compose(overrides: Sequence[str], root: type, method: type) -> dict[str, Any]:
    """:func:`resolve` by Hydra alone."""
    from hydra import compose as hydra_compose
    from hydra import initialize
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ConfigStore.instance().store(name="entrobench_run", node=_schema(root, method))
    GlobalHydra.instance().clear()
    try:
        with initialize(version_base="1.3", config_path=None):
            resolved = hydra_compose("entrobench_run", overrides=list(overrides))
            return dict(OmegaConf.to_container(resolved, resolve=True))  # type: ignore[arg-type]
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = next((line for line in str(cause).splitlines() if line.strip()), str(cause))
        full_key = getattr(cause, "full_key", "") or ""
        raise UserError(f"{full_key + ': ' if full_key else ''}{first}") from error


def _schema(root: type, method: type) -> Any:
    """The typed configuration node with its defaults."""
    from omegaconf import OmegaConf

    base = OmegaConf.structured(root)
    OmegaConf.set_struct(base, False)
    base.method = OmegaConf.structured(method)
    _make_writable(base.method)
    OmegaConf.set_struct(base, True)
    return base


def _make_writable(node: Any) -> None:
    """A frozen dataclass makes a read-only node, and so does each that stands inside it."""
    from omegaconf import OmegaConf

    OmegaConf.set_readonly(node, False)
    for key in node:
        if OmegaConf.is_dict(node[key]):
            _make_writable(node[key])


@lru_cache(maxsize=512)
def _scratch(schema: type) -> Any:
    """A typed node on which single assignments are tried out; what other keys hold in it does not matter."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(schema)
    _make_writable(node)
    return node


@lru_cache(maxsize=512)
def _defaults(schema: type) -> dict[str, Any]:
    from omegaconf import OmegaConf

    return dict(OmegaConf.to_container(OmegaConf.structured(schema), resolve=True))  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _assignment(text: str, schema: type) -> Any:
    """``(path, value)`` of a plain ``a.b=value``, else :data:`_UNUSUAL`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if "${" in text:  # may refer to other settings
        return _UNUSUAL
    try:
        parsed = OverridesParser.create().parse_override(text)
        if parsed.type != OverrideType.CHANGE or parsed.package is not None or parsed.is_sweep_override():
            return _UNUSUAL
        scratch, key, value = _scratch(schema), parsed.key_or_group, parsed.value()
        if isinstance(value, dict):  # would be merged into what is there
            return _UNUSUAL
        OmegaConf.update(scratch, key, value, merge=True)
        node = OmegaConf.select(scratch, key, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException):
        return _UNUSUAL
    return tuple(key.split(".")), OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
