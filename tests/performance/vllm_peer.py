"""vLLM as the peer of a sampling benchmark: a process of its own, in vLLM's environment, one thread.

    .venv-vllm/bin/python tests/performance/vllm_peer.py MODEL DTYPE ROWS POSITIONS

Set up as vLLM's documentation of its CPU backend advises: threads bound to cores, a key-value cache of a
given size, compiled (its default); one process, because on one core a second one only takes turns. It
imports nothing of ours. A line of JSON on standard input (``prompts``, ``n``, ``max_tokens``) is answered by
one on standard output: ``cpu_s`` and ``tokens``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

#: One thread on the first core; 2 GiB of cache hold 64 responses with their prompts several times over.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def settings(model: str, dtype: str, rows: int, positions: int) -> dict[str, Any]:
    """What ``vllm.LLM`` is given."""
    return {
        "model": model, "dtype": dtype, "max_num_seqs": rows, "max_model_len": positions,
        "enable_prefix_caching": True, "generation_config": "vllm", "disable_log_stats": True, "seed": 0,
        "distributed_executor_backend": "uni",
    }  # fmt: skip


def main() -> None:
    os.environ.update(ENVIRONMENT)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is no answer
    model, dtype, rows, positions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    from vllm import LLM, SamplingParams, __version__

    engine = LLM(**settings(model, dtype, rows, positions))
    print(json.dumps({"version": __version__}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        params = SamplingParams(
            n=asked["n"], temperature=1.0, max_tokens=asked["max_tokens"], ignore_eos=True, detokenize=False
        )
        prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
        engine.reset_prefix_cache()  # a rollout's prompts are new
        start = time.process_time()
        outputs = engine.generate(prompts, params, use_tqdm=False)
        spent = time.process_time() - start
        tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
        print(json.dumps({"cpu_s": spent, "tokens": tokens}), file=answers, flush=True)


if __name__ == "__main__":
    main()
