"""What a grading process may not do: outlive its parent, eat the memory, write files, run anything."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
from typing import Any

#: Audit events of Python that grading never needs.
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.mkdir",
    "os.putenv",
    "os.kill",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
    "pty.spawn",
    "shutil.",
    "ctypes.",
    "webbrowser.",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(PermissionError):
    """A grading process may not do this. An answer that leads there is unparsed; nothing has failed."""


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends (Linux); at once if it already has."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory_mb: int) -> None:
    """No more than ``memory_mb`` MiB of address space, no core dump, not a byte into a regular file."""
    for what, most in (
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (
            ValueError,
            OSError,
        ) as error:  # macOS refuses RLIMIT_AS: the wall clock is what is left there
            if sys.platform.startswith("linux"):
                raise RuntimeError(f"cannot limit grading processes: {error}") from error


def refuse_side_effects() -> None:
    """Raise on every attempt to start a program, open a connection, or change a file.

    A second line of defence: nothing evaluates the text of an answer in the first place.
    """

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            if isinstance(flags, int) and flags & _WRITING:
                raise Refused("grading processes write no files")
        elif event == "compile":
            # Source that stands in no file. sympy makes its monomial arithmetic so, from its own templates.
            source, name = arguments
            template = isinstance(source, bytes) and source.startswith(b"def monomial_")
            if str(name).startswith("<") and not template:
                raise Refused("grading processes compile no strings")
        elif event.startswith(_FORBIDDEN):
            raise Refused(f"grading processes may not do this: {event}")

    sys.addaudithook(refuse)


def never_evaluate() -> None:
    """Replace the function by which sympy evaluates strings as Python; numbers and names are still read.

    latex2sympy hands it the digits of every number (``Number("12")``), and nothing else may come through.
    """
    from sympy import Float, Integer, Symbol
    from sympy.parsing import sympy_parser

    def read_number(text: str, *_: Any, **__: Any) -> Any:
        digits = str(text).strip()
        if re.fullmatch(r"[-+]?[0-9]{1,4000}", digits):
            return Integer(int(digits))
        if re.fullmatch(r"[-+]?(?:[0-9]{1,400}\.[0-9]{0,400}|\.[0-9]{1,400})", digits):
            return Float(digits)
        if re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]{0,40}", digits):  # a name is a symbol, never looked up
            return Symbol(digits)
        raise Refused("strings are not evaluated in grading processes")

    sympy_parser.parse_expr = read_number


def cpu_allowance(seconds: float) -> None:
    """End this process after so many seconds of its own processor time; 0 takes the allowance back.

    The kernel does it, in the middle of a computation too. Processor time and not the wall clock, so that a
    busy machine does not turn slow answers into timeouts.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
