"""Imports what every run needs, once: preloaded by the server that forks the runs of a test."""

import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache  # noqa: F401
from transformers.models.qwen2 import modeling_qwen2  # noqa: F401

import harness.runs
import harness.statistics
import harness.training
import methods.grpo
import methods.registry
import tests.helpers.execution
import tests.helpers.tiny  # noqa: F401
