"""Draws all pictures of a report."""

from __future__ import annotations

from harness.report.analysis.model import Report
from harness.report.render.figures.canvas import plain_matplotlib
from harness.report.render.figures.forest import draw_forest
from harness.report.render.figures.panels import draw_picture, shown
from harness.report.render.figures.pictures import entropy, frontier, law, over_training, passk, spent
from harness.report.render.figures.surface import draw_surface

#: File -> caption, in the order in which a reader wants them.
FIGURES = {
    "delta.png": "Difference of each row in pass@1 to the reference, with its 95 % interval.",
    "frontier.png": "pass@1 against pass@k over checkpoints: diversity at equal accuracy.",
    "rise.png": "pass@1 on the validation set over training; the band spans the seeds.",
    "fall.png": "pass@k on the validation set over training; the band spans the seeds.",
    "entropy.png": "Probe entropy over training steps; the band spans the seeds from smallest to largest.",
    "spent.png": "Probe entropy against pass@k over checkpoints: what entropy buys along training.",
    "passk.png": "pass@k for growing k, with the base model's curve.",
    "law.png": "pass@1 against training entropy at the checkpoints, with the fit of R = -a exp(H) + b.",
}

#: Drawn where there are tuning trials.
SURFACE = "rates.png"


def captions(report: Report) -> dict[str, str]:
    """What each picture of this report shows: with many rows pass@k is drawn as a difference."""
    surface = "Score of the tuning trials at every learning rate; framed: what is as good as the best."
    return FIGURES | {
        SURFACE: surface,
        "passk.png": shown(report, passk(report)).caption or FIGURES["passk.png"],
    }


def draw_figures(report: Report) -> dict[str, bytes]:
    """PNG files by name; a picture without data says so."""
    with plain_matplotlib():
        drawn = {
            "delta.png": draw_forest(report),
            "frontier.png": draw_picture(report, frontier(report)),
            "rise.png": draw_picture(report, over_training(report, many=False)),
            "fall.png": draw_picture(report, over_training(report, many=True)),
            "spent.png": draw_picture(report, spent(report)),
            "entropy.png": draw_picture(report, entropy()),
            "passk.png": draw_picture(report, passk(report)),
            "law.png": draw_picture(report, law(report)),
        }
        if report.robustness is not None:
            title = f"{report.robustness.what} in %, validation set, over learning rates"
            drawn[SURFACE] = draw_surface(report.robustness, title)
    return {name: drawn[name] for name in (*FIGURES, SURFACE) if name in drawn}
