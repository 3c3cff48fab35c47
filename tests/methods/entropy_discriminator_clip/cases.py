"""Where the shared tests try Entropy-discriminator clipping."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "entropy-discriminator-clip@b": [{"mu": 0.7, "aggregation": "seq-mean-token-mean"}],
        "entropy-discriminator-clip@v": [{"mu": 0.5, "max_fraction": 1.0}],
    },
    active={
        "entropy-discriminator-clip@b": {"mu": 1.0},
        "entropy-discriminator-clip@v": {"mu": 1.0},
    },
    readings=[
        ("entropy-discriminator-clip@b", {"mu": 0.7}, {}),
        ("entropy-discriminator-clip@v", {"mu": 0.7}, {}),
        ("entropy-discriminator-clip@v", {"mu": 0.3, "max_fraction": 0.1}, {}),
        ("entropy-discriminator-clip@v", {"mu": 0.5, "max_fraction": 1.0}, {}),
    ],
    formulas=[
        "methods.entropy_discriminator_clip:discriminator",
        "methods.entropy_discriminator_clip:mean_std",
        "methods.entropy_discriminator_clip:removed_by_discriminator",
        "methods.entropy_discriminator_clip:removed_by_change",
        "methods.entropy_polarity:polarity_terms",
    ],
)
