"""Where the shared tests try self-play."""

from tests.methods.support.cases import Cases

#: Any number is an input that gives 7: letters of the tiny model have one now and then.
EASY = {
    "tasks": {
        "code_i": [["D*0+7", ["3"], ["7"]]],
        "code_o": [["D+1", ["3"], ["4"]]],
        "code_f": [["D+1", ["3", "5"], ["4", "6"]]],
    }
}

CASES = Cases(
    options={
        "self-play-azr": [
            {"propose_reward": "half", "train_propose": False},
            {"gamma": 0.9, "tasks": "text"},
        ],
    },
    readings=[
        ("self-play-azr", {}, EASY),
        ("self-play-azr", {"propose_reward": "inverse", "gamma": 0.8}, EASY),
        ("self-play-azr", {"propose_reward": "half", "train_propose": False}, EASY),
    ],
    refused=[
        ("self-play-azr", {"tasks": "python"}, {}, "needs a sandbox outside .*use method.tasks=text"),
        ("self-play-azr", {}, {"rollout.max_response_tokens": 40}, "leaves 28 .*or use method.tasks=text"),
    ],
    formulas=[
        "methods.self_play_azr:learnability",
        "methods.self_play_azr:proposer_reward",
        "methods.self_play_azr:solver_reward",
        "methods.self_play_azr:role_advantages",
        "methods.self_play_azr:update_sparsity",
    ],
    inert={
        ("n_samples",): "accuracies are stored as they are",
        ("gamma",): "1 in the stored cases, as in the code; readings have others",
    },
)
