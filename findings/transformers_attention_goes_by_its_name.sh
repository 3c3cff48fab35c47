#!/bin/sh
# transformers: the same attention function under another name gives a sparse model other logits, without a word.
# Models with an index of keys (DeepSeek V3.2, GLM MoE DSA and families like them) put their choice of keys into the
# mask only if their attention is called "eager" or "sdpa". Under any other name they hand it over as `indices` and
# leave the mask as it is; a function that takes further keywords, as the documented ones do, then attends to all keys.
#
# Here sdpa's own function is registered as "mine" with sdpa's own masks, and 40 tokens are read with 4 keys each.
#
# Seen (torch 2.13.0):
#   5.23.0 Llama: equal
#   5.23.0 DeepseekV32: apart
#   5.23.0 GlmMoeDsa: apart
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

AttentionInterface.register("mine", sdpa_attention_forward)
AttentionMaskInterface.register("mine", sdpa_mask)
transformers.logging.set_verbosity_error()
sizes = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
}
sparse = {
    "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 8,
    "index_topk": 4, "index_n_heads": 2, "index_head_dim": 16,
}
ids = torch.arange(3, 43)[None]
for name, more in (("Llama", {}), ("DeepseekV32", sparse), ("GlmMoeDsa", sparse)):
    cls = getattr(transformers, f"{name}ForCausalLM")
    torch.manual_seed(0)
    model = cls(cls.config_class(**sizes, **more)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3)
        own = model(ids).logits
        model.set_attn_implementation("mine")
        away = float((model(ids).logits - own).abs().max())
    print(f"{transformers.__version__} {name}: {'equal' if away < 1e-4 else 'apart' if away > 0.1 else away}")
PYTHON
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "transformers==5.23.0"
"$folder/env/bin/python" "$folder/ask.py" 2> /dev/null | tee "$folder/seen"
cat > "$folder/expected" <<'TEXT'
5.23.0 Llama: equal
5.23.0 DeepseekV32: apart
5.23.0 GlmMoeDsa: apart
TEXT
cmp "$folder/seen" "$folder/expected"
