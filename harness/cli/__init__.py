"""The command line: parses, calls one function, prints its complaint. A command is a file of this folder.

``parser.py`` holds the words and their help, :data:`COMMANDS` which function carries out which command. A
function is imported when its command is given, so that ``entrobench --help`` stays quick. May import
everything else in the harness; nothing may import it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from harness import __version__
from harness.cli.parser import INNER, SUMMARIES, SWEEP_VERBS, parser
from harness.cli.speaker import Speaker
from harness.util.collector import collector_paused
from harness.util.errors import UserError, unknown
from harness.util.lazy import load_when_used
from harness.util.progress import listening

#: Command (and verb) -> the function that carries it out, and which arguments it takes by name.
COMMANDS = {
    "train": ("harness.cli.run:train", "overrides"),
    "eval": ("harness.cli.evaluate:evaluate", "words regrade"),
    "sweep": ("harness.cli.sweeps:run_verb", "verb file options watch runs run script replace anew"),
    "plan-memory": ("harness.cli.memory:plan_memory_of", "words"),
    "export": ("harness.cli.export:export", "run folder checkpoint"),
    "prefetch": ("harness.cli.prefetch:prefetch", "file options"),
    "import-gguf": ("harness.cli.gguf:import_gguf", "file folder options"),
    "prefetch-model": ("harness.cli.gguf:prefetch_model", "name accept_terms"),
    "report": ("harness.cli.report:report", "source options select compare to readme numerics"),
    "verify": ("harness.cli.verify:verify", "record options"),
    "analyse": ("harness.cli.analyse:analyse", "name words to"),
    "methods": ("harness.cli.methods:list_methods", ""),
    "methods show": ("harness.cli.methods:show_method", "name"),
    "methods docs": ("harness.cli.methods:write_pages", "folder check"),
    "new-method": ("harness.cli.new_method:new_method", "name folder"),
    "check golden": ("harness.cli.checks:golden", "folder"),
    "check grading": ("harness.cli.checks:grading", "file grader"),
    "check overlap": ("harness.cli.overlap:overlap", "settings"),
    "doctor": ("harness.cli.doctor:doctor", ""),
    "_worker": ("harness.cli.worker:work", "file"),
    "_slurm": ("harness.sweep.slurm.job:run_job", "file"),
    "_probe": ("harness.sweep.slurm.probe:probe", "file"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 good, 1 something failed, 2 the request was wrong."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _check_words(words)
        if words[:1] == ["eval"]:  # options may stand between the settings
            words.sort(key=lambda word: 0 if word == "eval" else 1 if word.startswith("--") else 2)
        arguments = parser().parse_args(_flags_first(words))
        return _dispatch(arguments)
    except UserError as error:
        print(f"entrobench: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("entrobench: interrupted; the same command goes on from the last checkpoints", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, e.g. `| head`
        return 0


def _flags_first(words: list[str]) -> list[str]:
    """``sweep VERB FILE --flag key=value`` as argparse wants it: flags do not part the settings."""
    if words[:1] != ["sweep"]:
        return words
    return words[:2] + sorted(words[2:], key=lambda word: not word.startswith("--"))


def _check_words(words: list[str]) -> None:
    """Suggest the nearest command for a mistyped one, which argparse does not."""
    if not words or words[0].startswith("-") or words[0] in INNER:
        return
    if words[0] not in SUMMARIES:
        raise unknown("command", words[0], SUMMARIES)
    verbs = {
        "sweep": SWEEP_VERBS,
        "methods": ("show", "docs"),
        "check": ("golden", "grading", "overlap"),
    }.get(words[0])
    if verbs and len(words) > 1 and not words[1].startswith("-") and words[1] not in verbs:
        raise unknown(f"{words[0]} command", words[1], verbs)


def _dispatch(arguments: argparse.Namespace) -> int:
    if arguments.version:
        print(f"entrobench {__version__}")
        return 0
    if arguments.command is None:
        parser().print_help()
        return 0
    for heavy in ("torch", "numpy"):
        load_when_used(heavy)
    verb = getattr(arguments, "verb", None)
    target, names = COMMANDS.get(f"{arguments.command} {verb}") or COMMANDS[arguments.command]
    module, _, function = target.partition(":")
    given = {name: getattr(arguments, name) for name in names.split() if hasattr(arguments, name)}
    with listening(Speaker()):
        with collector_paused():
            command = getattr(import_module(module), function)
        return int(command(**given))
