"""What vLLM does otherwise on a CPU: some kernels are missing, and a prompt may not be split.

vLLM may spread a long prompt over several scheduling steps (chunked prefill). After each part but the last
it drops the token that it drew and turns the request's generator back, which in 0.32 only generators of a GPU
can do: on a CPU the engine dies of "CPU Generator does not use offset". So here every step takes prompts
whole, as many as its budget holds (at least the context, so that any prompt fits, also one that was
interrupted and comes back with what it had drawn); the others wait for the next step.
"""

from __future__ import annotations

from typing import Any

from harness.util.errors import UserError

#: vLLM's settings under which it splits no prompt: without chunks its budget is at least the context.
WHOLE_PROMPTS = {"enable_chunked_prefill": False}


def keep_states(given: Any) -> None:
    """Turn off cached prefixes for models whose layers carry a state: they would have their prompts split.

    vLLM caches such a state at the ends of blocks only, and cuts prompts there.

    Args:
        given: vLLM's ``EngineArgs``, changed in place.
    """
    if given.create_model_config().has_inner_state:
        given.enable_prefix_caching = False


def check_whole_prompts(config: Any, model: str) -> None:
    """Refuse a ``VllmConfig`` that would split prompts after all.

    Raises:
        UserError: names the cause.
    """
    if config.cache_config.mamba_cache_mode == "align" or config.scheduler_config.enable_chunked_prefill:
        raise UserError(
            f"vllm would split long prompts of '{model}' over several steps, after which it cannot go on "
            "with a seeded sample on a CPU; use engine=hf"
        )


def check_heads(model: str, revision: str | None) -> None:
    """vLLM's CPU attention knows some head sizes only, and says so not before the first token.

    Raises:
        UserError: the model's is not among them.
    """
    from transformers import AutoConfig
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False).get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    known = CPUAttentionBackend.get_supported_head_sizes()
    if size not in known:
        sizes = ", ".join(map(str, known))
        raise UserError(f"vllm's CPU attention has no head size {size} (it has {sizes}); use engine=hf")
