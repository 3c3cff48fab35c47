#!/bin/sh
# transformers: a model in float64 computes its norms, and so its logits, at the precision of float32.
# Weights, hidden states and logits say float64, but the RMS norms of the Llama kind cast their input to float32,
# whatever it was, and cast the result back. A "double precision reference" from such a model is off by 1e-7, and
# torch.autograd.gradcheck refuses it; a model with LayerNorm (GPT-2) is double throughout.
#
# Here models of random float64 weights read 20 tokens. A norm that computed in float32 is known by its output, every
# number of which survives a trip through float32 (its weight is 1).
#
# Seen (torch 2.13.0):
#   5.23.0 Llama: logits float64, norms that computed in float32: 5 of 5
#   5.23.0 Qwen3: logits float64, norms that computed in float32: 9 of 9
#   5.23.0 Gemma3Text: logits float64, norms that computed in float32: 13 of 13
#   5.23.0 Olmo2: logits float64, norms that computed in float32: 9 of 9
#   5.23.0 GPT2: logits float64, norms that computed in float32: 0 of 5
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ask.py" <<'PYTHON'
import torch
import transformers

transformers.logging.set_verbosity_error()
sizes = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
}
for name in ("Llama", "Qwen3", "Gemma3Text", "Olmo2", "GPT2"):
    own = sizes if name != "GPT2" else {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    config = getattr(transformers, f"{name}Config")(**own)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    seen = []
    for module in model.modules():
        if "Norm" in type(module).__name__:
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(out.detach()))
    logits = model(torch.arange(3, 23)[None]).logits
    short = sum(bool((out == out.float().double()).all()) for out in seen)
    print(
        f"{transformers.__version__} {name}: logits {str(logits.dtype)[6:]}, "
        f"norms that computed in float32: {short} of {len(seen)}"
    )
PYTHON
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "transformers==5.23.0"
"$folder/env/bin/python" "$folder/ask.py" 2> /dev/null | tee "$folder/seen"
cat > "$folder/expected" <<'TEXT'
5.23.0 Llama: logits float64, norms that computed in float32: 5 of 5
5.23.0 Qwen3: logits float64, norms that computed in float32: 9 of 9
5.23.0 Gemma3Text: logits float64, norms that computed in float32: 13 of 13
5.23.0 Olmo2: logits float64, norms that computed in float32: 9 of 9
5.23.0 GPT2: logits float64, norms that computed in float32: 0 of 5
TEXT
cmp "$folder/seen" "$folder/expected"
