"""Imports what every run needs, once: preloaded by the server that forks the runs of a test."""

# ruff: noqa: F401

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
