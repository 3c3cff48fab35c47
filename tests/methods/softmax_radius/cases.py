"""Where the shared tests try the softmax radius."""

from tests.methods.support.cases import Cases

PROXY = {"rule": "output-proxy"}
CASES = Cases(
    options={
        "softmax-radius": [{**PROXY, "proxy": "top2"}],
    },
    readings=[
        # test_softmax_radius.py measures steps that are cut short, and a radius that no step reaches
        ("softmax-radius", PROXY, {}),
    ],
    refused=[
        ("softmax-radius", {**PROXY, "target": 2.0}, {}, "method.target has no effect"),
        ("softmax-radius", {"proxy": "max"}, {}, "method.rule=output-proxy"),
        ("softmax-radius", {}, {"model.dtype": "bfloat16"}, "model.dtype=float32"),
    ],
    formulas=[
        "methods.softmax_radius:radius",
        "methods.softmax_radius:step_scale",
        "methods.softmax_radius:logit_spread",
        "methods.softmax_radius:top_gap",
        "methods.softmax_radius:output_radius",
        "harness.train.proposal:largest_spread",
    ],
    inert={
        ("lr",): "the rates of all steps are stored as an array",
        ("spike",): "the rates of all steps are stored as an array",
    },
)
