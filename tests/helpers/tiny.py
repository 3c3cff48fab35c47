"""A tiny random Qwen2 with a BPE tokenizer and chat template, and a problem set it can learn."""

from __future__ import annotations

import copy
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch

from harness.config.hydra import parse
from harness.config.schema import RunConfig
from harness.model.policy import Policy, load_policy
from harness.problems.problem import Benchmark, Problem, Verdict
from harness.run.compose import compose
from harness.stages.base import Stages
from harness.stages.batch import Batch
from harness.train.trainer import Trainer

SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "a stitch in time saves nine, and one apple a day keeps nobody away",
    "say a word with the letter e in it, then say another word with the letter q",
    "numbers are 0 1 2 3 4 5 6 7 8 9 and nothing else",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")


@cache
def _trained(vocab: int) -> str:
    """The vocabulary and merges of :func:`build_tokenizer`, which every benchmark of letters needs anew."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=list(SPECIAL), show_progress=False)
    backend.train_from_iterator(SENTENCES, trainer)
    return str(backend.to_str())


def build_tokenizer(vocab: int = 96) -> Any:
    """A byte-level BPE tokenizer with a chat template, trained on a few sentences."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(vocab)), pad_token=SPECIAL[0], eos_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]), clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(tokenizer: Any, *, seed: int = 0, scale: float = 0.3, **changes: Any) -> Any:
    """Two layers, hidden size 32; ``scale`` spreads the weights so that the distributions are not flat."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    settings = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "tie_word_embeddings": False, "initializer_range": scale, "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**settings | changes)).eval()


@cache
def tiny_folder(layers: int = 2) -> Path:
    """The tiny model and its tokenizer, saved the Hugging Face way; removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="entrobench-tiny-"))
    # not atexit, which forked processes pass by
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)
    save_tiny(folder, num_hidden_layers=layers)
    return folder


def save_tiny(folder: Path, **changes: Any) -> None:
    tokenizer = build_tokenizer()
    build_model(tokenizer, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_policy(dtype: torch.dtype = torch.float32, temperature: float = 1.0, layers: int = 2) -> Policy:
    """A fresh copy of the tiny model; in double precision throughout when asked for."""
    read = _read(layers)
    policy = Policy(copy.deepcopy(read.model), copy.deepcopy(read.tokenizer), temperature)
    policy.network.ways = read.network.ways
    policy.model.to(dtype)
    if dtype == torch.float64:
        _double_norms(policy.model)
    return policy


@cache
def _read(layers: int) -> Policy:
    """The tiny model as it is read from its folder and looked at, once a process."""
    return load_policy(tiny_folder(layers))


def _double_norms(model: torch.nn.Module) -> None:
    """Qwen2's own norm computes in fp32 whatever the model's type; swap in one that does not."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "Qwen2RMSNorm":
                size = child.weight.shape[0]
                norm = torch.nn.RMSNorm(size, eps=child.variance_epsilon, dtype=torch.float64)
                norm.weight = child.weight
                setattr(parent, name, norm)


class LetterBenchmark:
    """Responses that contain the asked letter are right: easy for some letters, rare for others."""

    name, version = "letters", "1"
    letters = "etaoinshrdlu"

    def __init__(self) -> None:
        self._tokenizer = build_tokenizer()

    def splits(self) -> Sequence[str]:
        return ("train", "validation", "test_id", "test_hard", "test_ood")

    def problems(self, split: str) -> Sequence[Problem]:
        if split not in self.splits():
            raise ValueError(f"unknown split '{split}'; choose one of {', '.join(self.splits())}")
        size = 24 if split == "train" else 4
        return [self._problem(split, i) for i in range(size)]

    def _problem(self, split: str, index: int) -> Problem:
        letter = self.letters[index % len(self.letters)]
        text = "say a word" if index % 2 else "say a word with the letter " + letter
        chat = [{"role": "user", "content": text}]
        prompt = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return Problem(f"letters/{split}/{index:03d}", prompt, answer=letter)

    def verify(self, problem: Problem, text: str) -> Verdict:
        if not text.strip():
            return Verdict("unparsed")
        return Verdict("right" if problem.answer in text else "wrong", "".join(sorted(set(text)))[:4])

    def demonstration(self, problem: Problem) -> str:
        """Words with the letter, more for some problems than for others."""
        return f"the letter {problem.answer}" + " and nothing" * (int(problem.id[-3:]) % 3)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.version.encode()).hexdigest()[:16]


SMALL = (
    "rollout.prompts_per_step=4", "rollout.group_size=4", "rollout.max_response_tokens=8",
    "train.minibatches=2", "train.epochs=2", "train.lr=1e-3", "train.warmup_steps=0", "train.steps=3",
    "data.benchmark=letters", "probe.prompts=2", "probe.samples=2", "probe.every=2", "eval.n=4",
    "eval.frontier_n=4", "eval.frontier_every=2", "eval.batch_rows=8", "device=cpu",
)  # fmt: skip


def small_run(*overrides: str, method: str = "grpo", layers: int = 2) -> RunConfig:
    """A run of the tiny model on :class:`LetterBenchmark`, with a few rollouts a step."""
    own = parse([word for word in overrides if word.startswith("+")])  # together: none may come twice
    for word in overrides:
        own |= {} if word.startswith("+") else _parsed((word,))
    settings = {"method": method, "model.path": str(tiny_folder(layers)), **_parsed(SMALL), **own}
    return compose(copy.deepcopy(settings))


@cache
def _parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """The same few words come again and again, and Hydra's grammar takes its time."""
    return parse(words)


def tiny_trainer(
    *overrides: str, stages: Stages | None = None, dtype: torch.dtype = torch.float32, method: str = "grpo",
    benchmark: Benchmark | None = None, layers: int = 2,
) -> Trainer:  # fmt: skip
    """A trainer of the tiny model; ``stages`` instead of those of ``method``."""
    run = small_run(*overrides, method=method, layers=layers)
    policy = tiny_policy(dtype, run.rollout.temperature, layers)
    return Trainer(run, policy, benchmark or LetterBenchmark(), stages or run.method.stages())


def make_batch(
    policy: Policy, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, extra_P: int = 0,
    extra_T: int = 0, **fields: Any,
) -> Batch:  # fmt: skip
    """A batch of given token ids; ``extra_P`` and ``extra_T`` add columns of padding."""
    from harness.model.decoding import left_padded

    rows, width = len(prompts), max(map(len, responses)) + extra_T
    prompt, prompt_mask = left_padded([*prompts, [0] * (max(map(len, prompts)) + extra_P)], policy.pad_id)
    response = torch.full((rows, width), policy.pad_id)
    mask = torch.zeros(rows, width, dtype=torch.bool)
    for i, ids in enumerate(responses):
        response[i, : len(ids)] = torch.tensor(ids)
        mask[i, : len(ids)] = True
    values: dict[str, Any] = {
        "prompt_BP": prompt[:-1], "prompt_mask_BP": prompt_mask[:-1], "response_BT": response,
        "mask_BT": mask,
        "group_B": torch.zeros(rows, dtype=torch.long), "sample_B": torch.arange(rows),
        "temperature_B": torch.ones(rows), "truncated_B": torch.zeros(rows, dtype=torch.bool),
        "rollout_logp_BT": torch.zeros(rows, width),
        "problems": tuple(Problem(f"p{i}", "") for i in range(rows)),
        "texts": ("",) * rows,
    }  # fmt: skip
    return Batch(**values | fields)
