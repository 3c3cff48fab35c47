#!/usr/bin/env bash
# gguf 0.19.0 reads a file's metadata by making several numpy arrays of every string in it. A header whose tokenizer has
# 150,000 tokens and as many merges, some 10 MB, then takes hundreds of megabytes and seconds before the first tensor can
# be looked at; the tensors themselves are only mapped. Parsing the same bytes with struct takes a small part of both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gguf==0.19.0" "numpy==2.3.5"
cat > "$folder/write.py" <<'PY'
import sys
import gguf, numpy

writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_tokenizer_model("gpt2")
writer.add_token_list([f"token{i:06d}" for i in range(150_000)])
writer.add_token_merges([f"a{i:06d} b{i:06d}" for i in range(150_000)])
writer.add_tensor("token_embd.weight", numpy.zeros((4, 32), numpy.float32))
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
PY
cat > "$folder/read.py" <<'PY'
import os, resource, struct, sys, time

path, how = sys.argv[1:]
if how == "gguf":
    import gguf
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
if how == "gguf":
    reader = gguf.GGUFReader(path)
    count = len(reader.fields["tokenizer.ggml.tokens"].data)
else:
    data = open(path, "rb").read()
    at, count = data.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8, 0
    (length,) = struct.unpack_from("<Q", data, at)
    at += 8
    tokens = []
    for _ in range(length):
        (size,) = struct.unpack_from("<Q", data, at)
        tokens.append(data[at + 8 : at + 8 + size].decode())
        at += 8 + size
    count = len(tokens)
mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
seconds = time.process_time() - began
print(f"{how}: {count} tokens of a file of {os.path.getsize(path) / 2**20:.1f} MiB, {seconds:.2f} s, {mib:.0f} MiB more")
print(int(mib), file=sys.stderr)
PY
"$folder/venv/bin/python" "$folder/write.py" "$folder/vocabulary.gguf"
theirs=$("$folder/venv/bin/python" "$folder/read.py" "$folder/vocabulary.gguf" gguf 2>&1 >"$folder/said")
cat "$folder/said"
plain=$("$folder/venv/bin/python" "$folder/read.py" "$folder/vocabulary.gguf" struct 2>&1 >"$folder/said")
cat "$folder/said"
[ "$theirs" -gt $((5 * plain)) ] || { echo "the behaviour has changed: $theirs against $plain MiB" >&2; exit 1; }
echo "gguf 0.19.0 - as described"
