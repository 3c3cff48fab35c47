"""Where the shared tests try Entrocraft."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("entrocraft@released", {}, {}),
        ("entrocraft@released", {"hi_start": 9.0, "hi_end": 9.0, "lo_start": 8.0, "lo_end": 8.0}, {}),
        ("entrocraft@released", {"hi_start": 1.6, "hi_end": 0.1, "lo_end": 0.05, "schedule": "cosine"}, {}),
        ("entrocraft@paper", {}, {}),
        ("entrocraft@paper", {"hi_start": 9.0, "hi_end": 9.0, "lo_start": 8.0, "lo_end": 8.0}, {}),
        ("entrocraft@paper", {"hi_start": 9.0, "hi_end": 9.0}, {}),
    ],
    refused=[
        ("entrocraft@released", {"lo_start": 0.8}, {}, "upside down"),
        ("entrocraft@paper", {"hi_end": 0.1}, {}, "upside down"),
    ],
    formulas=[
        "methods.entrocraft:scheduled",
        "methods.entrocraft:gate",
        "methods.entrocraft:gated_rewards",
        "methods.entrocraft:kept_rollouts",
        "methods.entrocraft:entropic",
    ],
)
