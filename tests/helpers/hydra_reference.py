"""What Hydra and OmegaConf themselves make of overrides: the reference for ``harness.config``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.util.errors import UserError


def hydra_composed(overrides: Sequence[str], root: type, method: type) -> dict[str, Any]:
    """The dataclass ``root`` with a node ``method`` of the dataclass ``method``, after ``overrides``.

    Raises:
        UserError: whatever Hydra or OmegaConf refuses.
    """
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


def applied(words: Sequence[str], root: type, method: type) -> dict[str, Any]:
    """As :func:`hydra_composed`, a hundred times faster: Hydra's parser, then OmegaConf, as Hydra calls them.

    Raises:
        UserError: whatever Hydra's parser or OmegaConf refuses.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    node = _schema(root, method)
    try:
        for override in OverridesParser.create().parse_overrides(list(words)):
            if override.is_sweep_override():
                raise UserError("several values")
            OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
        return dict(OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error)) from error


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
