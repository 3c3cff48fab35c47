"""What becomes of a family here: right, refused in one line, or a fault."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tests.families.build import WINDOW, save
from tests.helpers.processes import WARM

#: Nats between our numbers and the model's own that are still right.
RIGHT = 2e-3
#: Prompts of unequal length, the longer one beyond the window already; responses go further.
PROMPTS = ([5, 9, 13, 7, 30, 31, 32, 33, 34, 35], [40, 41, 42])
SAMPLES, TOKENS = 3, 2 * WINDOW + 4

Kind = Literal["right", "refused", "wrong", "traceback", "not built"]


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        said: why not.
        worst: nats that log-probs in training and in sampling, and entropies, lie off at most.
        how: the ways in which it is batched.
    """

    family: str
    kind: Kind
    said: str
    worst: float = 0.0
    how: str = ""


def measure(family: str) -> Outcome:
    """Build the family's tiny model, load it as a run does, draw from it, and compare."""
    with tempfile.TemporaryDirectory(prefix="entrobench-family-") as folder:
        try:
            save(family, Path(folder))
        except Exception as error:  # transformers' own: a family that needs other packages, for one
            return Outcome(family, "not built", _line(error))
        return measure_folder(family, Path(folder))


def measure_folder(family: str, folder: Path) -> Outcome:
    from harness.model.policy import load_policy
    from harness.util.errors import UserError

    try:
        policy = load_policy(folder)
    except UserError as error:
        return Outcome(family, "refused", str(error).replace(f"model '{folder}'", "the model"))
    except Exception as error:
        return Outcome(family, "traceback", _line(error))
    try:
        worst = compare(policy, folder)
    except Exception as error:
        return Outcome(family, "traceback", _line(error))
    ways = policy.network.ways
    how = "packed" if policy.packs else "padded" if ways.pad else "by length"
    if not ways.cache:
        how += ", no cache"
    return Outcome(family, "right" if worst <= RIGHT else "wrong", "", worst, how)


def compare(policy: Any, folder: Path) -> float:
    """The largest difference in nats from the logits of a fresh copy of the model, one row at a time."""
    from transformers import AutoModelForCausalLM

    from harness.rollout import sampler
    from harness.stages.token_stats import ENTROPY, LOGP
    from tests.helpers.tiny import make_batch

    keys = [("family", i) for i in range(SAMPLES * len(PROMPTS))]
    drawn = sampler.sample(policy, PROMPTS, SAMPLES, keys=keys, max_tokens=TOKENS)
    rows = [tokens[mask].tolist() for tokens, mask in zip(drawn.tokens_NT, drawn.mask_NT, strict=True)]
    prompts = [prompt for prompt in PROMPTS for _ in range(SAMPLES)]
    with torch.no_grad():
        ours = policy.stats(make_batch(policy, prompts, rows), (LOGP, ENTROPY))
        own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        worst = 0.0
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
            logits = own(input_ids=torch.tensor([prompt + row])).logits[0].float()
            logp = logits.log_softmax(1)[len(prompt) - 1 : len(prompt) + len(row) - 1]
            chosen, entropy = logp.gather(1, torch.tensor(row)[:, None])[:, 0], -(logp.exp() * logp).sum(1)
            for a, b in (
                (ours["logp"][i], chosen), (drawn.logp_NT[i], chosen), (ours["entropy"][i], entropy),
            ):  # fmt: skip
                difference = float((a[: len(row)] - b).abs().max())
                worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def _line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [""])[0].strip()
    return f"{type(error).__name__}: {text}"[:200]


def all_families() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _start() -> None:
    import gc

    import torch
    from transformers.utils import logging

    gc.disable()  # the worker ends with its share of the families
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def measure_all(families: Sequence[str], workers: int) -> Iterable[Outcome]:
    """In processes of their own; the outcomes come in the order of ``families``."""
    with ProcessPoolExecutor(workers, WARM, _start) as pool:
        yield from pool.map(measure, families)
