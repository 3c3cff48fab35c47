"""The micro testbed as a whole: disjoint splits, blind guessing, tokenizer, frozen fingerprint."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.micro import testbed
from benchmarks.micro.testbed import BASE_DIR, FAMILIES, SPLITS, Micro, bucket_of, frozen, stream
from harness.problems.problem import Benchmark, Problem
from tests.helpers.scripts import run_code
from tests.testbed.demonstrations import SPOILT_SHARE, careless, clean, rough, spoil
from tests.testbed.freeze import digests, micro_verdicts

EVALUATION = [split for split in SPLITS if split != "train"]

CALIBRATION = BASE_DIR.parent / "calibration.json"


def test_is_a_benchmark() -> None:
    assert isinstance(Micro(), Benchmark)


def test_splits_have_their_sizes_and_are_balanced() -> None:
    for split, (_, _, count) in SPLITS.items():
        problems = Micro().problems(split)
        assert len(problems) == count
        assert len({p.id for p in problems}) == len({p.prompt for p in problems}) == count
        shares = Counter(p.meta["family"] for p in problems)
        assert max(shares.values()) - min(shares.values()) <= 1


def test_splits_are_disjoint_by_bucket_and_in_fact() -> None:
    prompts = {split: {p.prompt for p in Micro().problems(split)} for split in SPLITS}
    for split, (bucket, _, _) in SPLITS.items():
        assert {bucket_of(prompt) for prompt in prompts[split]} == {bucket}
    assert len(set.union(*prompts.values())) == sum(map(len, prompts.values()))


def test_demonstrations_come_from_the_training_bucket() -> None:
    evaluation = {p.prompt for split in EVALUATION for p in Micro().problems(split)}
    for course in (rough, clean, careless):
        pairs = course(6000)
        assert all(bucket_of(prompt) == "train" for prompt, _ in pairs)
        assert not evaluation & {prompt for prompt, _ in pairs}
        assert pairs[:50] == course(50)


def test_spoilt_answers_are_wrong_but_rarely() -> None:
    rng = random.Random(3)
    for name, family in FAMILIES.items():
        verdicts = []
        for drawn in islice(stream(family, "train", {"easy": 1.0}, "spoilt"), 400):
            problem = Problem("", drawn.prompt, meta={"family": name, **drawn.meta})
            assert Micro().verify(problem, drawn.solution).correct
            verdicts.append(Micro().verify(problem, spoil(rng, name, drawn.solution, "")).correct)
        assert 0 < sum(verdicts) < 0.2 * len(verdicts), name


def test_careless_demonstrations_are_spoilt_in_the_stated_share() -> None:
    sources = [stream(family, "train", {"easy": 1.0}, "careless") for family in FAMILIES.values()]
    solutions = [next(sources[i % 3]).solution for i in range(3003)][3:]
    kept = fmean(
        response == solution for (_, response), solution in zip(careless(3000), solutions, strict=True)
    )
    # A slip may change nothing.
    assert 1 - SPOILT_SHARE - 0.03 < kept < 1 - SPOILT_SHARE + 0.06


def test_problem_space_is_large() -> None:
    drawn = {
        name: len({d.prompt for d in islice(stream(family, "train", SPLITS["train"][1], "space"), 20_000)})
        for name, family in FAMILIES.items()
    }
    # Lower bounds from few draws; calibration.json has those of many.
    assert all(count > 10_000 for count in drawn.values()), drawn
    calibration = json.loads(CALIBRATION.read_text())
    assert sum(calibration["distinct_training_problems_in_200k_draws"].values()) >= 100_000


def test_blind_guessing_stays_below_the_bound() -> None:
    from tests.testbed.calibrate import GUESSES, blind_guess_figures

    # fewer guesses than the stored figures are of, which keep to the bound too
    stored = json.loads(CALIBRATION.read_text())["blind_pass@32"]
    again = blind_guess_figures(count=GUESSES // 4)
    for figures in (stored, again):
        for split in EVALUATION:
            for kind in ("grammar", "foreign"):
                assert figures[split][kind] < 0.30
                assert all(figures[split][f"{kind}/{name}"] < 0.30 for name in FAMILIES)
                # the stored ones are those of today's problems and verifier
                assert abs(again[split][kind] - stored[split][kind]) < 0.03


def test_calibration_of_the_base_policy_is_in_range() -> None:
    base = json.loads(CALIBRATION.read_text())["base"]
    overall = {split: figures["all"] for split, figures in base.items()}
    assert 0.15 <= overall["test_id"]["pass@1"] <= 0.40
    assert 0.60 <= overall["test_id"]["pass@32"] <= 0.85
    assert 0.8 <= overall["test_id"]["entropy_nats_per_token"] <= 1.1
    for split in ("test_hard", "test_ood"):
        assert 0 < overall[split]["pass@1"] < overall["test_id"]["pass@1"]
        assert 0.1 < overall[split]["pass@32"] < overall["test_id"]["pass@32"]


def test_frozen_file_matches_what_there_is() -> None:
    assert frozen() == digests()["micro"], (
        "problems, verdicts or base weights changed: raise VERSION (or VERIFIER_VERSION), write FROZEN "
        "again by python -m tests.testbed.freeze; earlier records become void"
    )


def test_fingerprint_covers_the_frozen_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original, file = frozen(), tmp_path / "FROZEN"
    fingerprints = {Micro().fingerprint()}
    monkeypatch.setattr(testbed, "FROZEN_FILE", file)
    for name in original:
        file.write_text(json.dumps({**original, name: "other"}))
        fingerprints.add(Micro().fingerprint())
    assert len(fingerprints) == 1 + len(original)


def test_verdicts_digest_notices_a_more_lenient_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    before = micro_verdicts()
    assert before == micro_verdicts()
    monkeypatch.setattr("benchmarks.micro.chains._MAX_STEPS", 9)
    assert micro_verdicts() != before


def test_fingerprint_generates_nothing_and_is_fast() -> None:
    code = (
        "import sys, time; from benchmarks.micro import testbed; began = time.process_time();"
        "testbed.stream = None; testbed.Micro().fingerprint();"
        "assert time.process_time() - began < 0.1; assert 'torch' not in sys.modules"
    )
    run = run_code(code)
    assert run.returncode == 0, run.stderr


def test_problems_do_not_depend_on_the_process() -> None:
    code = (
        "import hashlib; from benchmarks.micro.testbed import Micro;"
        "print(hashlib.sha256(repr(Micro().problems('train')[:500]).encode()).hexdigest())"
    )
    runs = [run_code(code, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout


def test_package_import_is_light() -> None:
    code = "import sys, benchmarks.micro.testbed; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert run_code(code).returncode == 0


def test_tokenizer_round_trip_and_base_model_load() -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE_DIR)
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE_DIR)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    rng = random.Random(0)
    for family in FAMILIES.values():
        for level in ("easy", "stretch", "hard", "ood"):
            drawn = family.draw(rng, level)  # type: ignore[arg-type]
            text = drawn.prompt + drawn.solution
            ids = tokenizer.encode(text)
            assert len(ids) == len(text)
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
            assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    assert model.config.model_type == "qwen2"
    assert 400_000 <= sum(p.numel() for p in model.parameters()) <= 1_000_000
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, parameter.to(torch.bfloat16).float())
