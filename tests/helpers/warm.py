"""Imports what every run needs, once: preloaded by the server that forks the runs of a test."""

# ruff: noqa: E402, F401

import gc
import os

# Nothing that is imported becomes garbage; to look for it takes a fifth longer.
gc.disable()

import pandas
import pyarrow.parquet
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.models.qwen2 import modeling_qwen2

import harness.registry.methods
import harness.run.execute
import harness.run.phases
import harness.statistics
import methods.grpo
import tests.helpers.execution
import tests.helpers.tiny

# A forked process whose tokenizers have threads says so and goes on without them; here they have none.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The tiny model is saved, and the grammar of settings has read some, before the first fork.
tests.helpers.tiny.small_run("method.kl_coef=0.0", "eval.splits=[test_id]")
# All of this stays, and no forked process looks for garbage in it.
gc.collect()
gc.freeze()
gc.enable()
