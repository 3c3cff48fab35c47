"""Reading, clustering and voting on answers, and training on the first rollouts of a group."""

from __future__ import annotations

import pytest
import torch

from harness.problems.problem import Verdict
from harness.stages.answers import answers_of, cluster_shares, clustered, elected
from harness.stages.defaults import group_normalised
from harness.stages.downsample import advantage_of, first_of_group
from tests.methods.support.golden import make_batch

ONE = torch.zeros(4, dtype=torch.int64)


def test_answers_are_read_in_both_forms() -> None:
    texts = (r"so \boxed{1{,}000}", "the answer is 7.", "no idea")
    batch = make_batch(torch.ones(3, 2), texts=texts)
    batch = batch.with_(verdicts=(Verdict("right", "1000"), Verdict("wrong", "7"), Verdict("unparsed")))
    assert answers_of(batch) == ["1000", "7", None]
    assert answers_of(batch, "written") == ["1{,}000", "7", None]
    with pytest.raises(ValueError, match="canonical, written"):
        answers_of(batch, "spoken")
    with pytest.raises(ValueError, match="no verdicts yet"):
        answers_of(batch.with_(verdicts=None))


def test_clusters_are_greedy_and_no_two_groups_share_one() -> None:
    group = torch.tensor([0, 0, 1, 0, 1])
    assert clustered(["a", "b", "a", "a", "a"], group).tolist() == [0, 1, 2, 0, 2]

    def close(first: str, other: str) -> bool:  # not transitive: 2 is close to 1 and to 3
        return abs(int(first) - int(other)) <= 1

    assert clustered(["1", "2", "3", "2"], ONE, close).tolist() == [0, 0, 1, 0]
    assert clustered(["2", "1", "3", "2"], ONE, close).tolist() == [0, 0, 0, 0]


def test_responses_without_an_answer_stand_apart_or_together() -> None:
    answers = [None, "a", None, "a"]
    assert clustered(answers, ONE).tolist() == [0, 1, 2, 1]
    together = clustered(answers, ONE, missing="together")
    assert together.tolist() == [0, 1, 0, 1]
    assert cluster_shares(together, ONE).tolist() == [0.5] * 4


def test_shares_are_of_the_own_group() -> None:
    group = torch.tensor([0, 0, 0, 0, 5, 5])
    shares = cluster_shares(clustered(["a", "a", "b", None, "a", "a"], group), group)
    assert shares.tolist() == [0.5, 0.5, 0.25, 0.25, 1.0, 1.0]


def test_the_most_frequent_answer_is_elected_and_of_equals_the_first() -> None:
    assert elected(["b", "a", "a", "b"], ONE) == [0] * 4
    assert elected(["b", "a", "a", None], ONE) == [1] * 4
    assert elected([None, "a", None, "b"], ONE) == [0] * 4
    assert elected([None, "a", None, "b"], ONE, missing_votes=False) == [1] * 4
    assert elected([None] * 4, ONE, missing_votes=False) == [None] * 4


def test_the_first_rows_of_a_group_are_kept_and_normalised_alone() -> None:
    group = torch.tensor([0, 1, 0, 0, 1, 0])
    keep = first_of_group(group, 0.5)
    assert keep.tolist() == [True, True, True, False, False, False]
    reward = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    advantage = advantage_of(reward, group, keep)
    assert advantage[:3].tolist() == group_normalised(reward[:3], group[:3]).tolist()
    assert advantage[3:].tolist() == [0.0] * 3
    assert first_of_group(group, 0.1).sum() == 2 and bool(first_of_group(group, 1.0).all())
