"""GGUF files as models: read, dequantised once, and kept as plain Hugging Face folders.

``convert.py`` turns a file into a folder; start there. ``header.py`` reads metadata and finds tensors,
``architectures.py`` maps names and settings, ``tokenizer.py`` builds the tokenizer that the metadata
describe, ``writer.py`` streams the weights. ``cache.py`` keeps one conversion of each file, ``packages.py``
knows models that package indexes carry. Only ``writer.py`` needs the ``gguf`` package (extra ``gguf``).
"""
