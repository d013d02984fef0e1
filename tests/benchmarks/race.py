"""Contenders measured in turns, each in a process of its own.

Speed on a shared or warm machine drifts by more than two libraries differ. So no figure of these scripts stands alone:
the contenders take turns within one run, one works while the others wait, and what is printed are ratios turn by turn,
their median and their extremes.

A script maps names to functions. Such a function gets the settings of the run, prepares what need not be measured, and
returns a function `turn(**request)`, which does the work once and returns a dict of whatever it found out. `Contender`
starts the script again as `SCRIPT --contend NAME`, under the Python that has the library, and asks for one turn at a
time. Every answer also holds:

    seconds       wall time of the turn
    cpu_seconds   processor time of the turn, all threads together: other programs on the machine hardly change it
    extra_mb      the most memory that the turn held beyond what its process held before (Linux only, else None)
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


class NotInstalled(Exception):
    """The contender's library is not there; the message says which one."""


def arguments(description):
    """A parser with what all scripts share. `--contend` and `--settings` are for the processes that they start."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument(
        "--peer", default=sys.executable, metavar="PYTHON", help="the Python that has the other libraries"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, help="threads of each contender; 1 where other programs work too"
    )
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, default={}, help=argparse.SUPPRESS)
    return parser


# What the libraries call their number of threads
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


# In the process of a contender


def contend(prepare, settings):
    """Prepare, then answer each line of the standard input with one turn, until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    try:
        turn = prepare(**settings)
    except ImportError as error:
        print(json.dumps({"not_installed": error.name or str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(turn, **json.loads(line))), file=answers, flush=True)


def timed(turn, **request):
    """What one turn found out, and what it cost."""
    before = _reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    found = turn(**request)
    cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    extra = None if before is None else max(0, _status("VmHWM") - before) / 1e6
    return {**cost, "extra_mb": extra, **(found or {})}


def _reset_peak():
    """Let Linux forget the largest memory so far; the memory now, in bytes. None where there is no such thing."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # the C library keeps freed memory for later: it gives it back
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        return _status("VmRSS")
    except (OSError, AttributeError, TypeError):
        return None


def _status(name):
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(name)


# In the process that compares


class Contender:
    """One process that takes turns when asked.

    Args:
        script: path of the script that knows the contender.
        name: its name there.
        settings: dict for the function that prepares.
        python: the interpreter.
        threads: how many it may use; None leaves that to its library.

    Raises:
        NotInstalled: a module that it imports is missing.
        RuntimeError: it ended; the message holds the last of what it wrote.
    """

    def __init__(self, script, name, settings=None, python=sys.executable, threads=None):
        self.name = name
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        command = [python, str(script), "--contend", name, "--settings", json.dumps(settings or {})]
        environment = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if threads:
            environment |= dict.fromkeys(THREADS, str(threads))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment},
        )
        first = self._answer()
        if "not_installed" in first:
            self.close()
            raise NotInstalled(first["not_installed"])

    def turn(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.log.seek(0)
        raise RuntimeError(f"{self.name} ended with code {code}:\n{self.log.read()[-2000:]}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start(script, named, settings=None, threads=None):
    """Start contenders: `named` maps each name to its interpreter. Those whose library is missing are left out."""
    started = {}
    for name, python in named.items():
        try:
            started[name] = Contender(script, name, settings, python, threads)
        except NotInstalled as missing:
            print(f"left out: {name}, since {python} has no module {missing} (README says how to get it)")
    return started


def take_turns(contenders, rounds, **request):
    """Let all take `rounds` turns, one at a time, in an order that is turned round from round to round.

    Returns:
        Dict of name and list of answers.
    """
    answers = {name: [] for name in contenders}
    for i in range(rounds):
        names = list(contenders)
        for name in names if i % 2 == 0 else names[::-1]:
            answers[name].append(contenders[name].turn(**request))
    return answers


def ratios(ours, theirs, figure="seconds"):
    """How often ours fits into theirs, turn by turn: (median, smallest, largest). Above 1, ours is better."""
    each = [b[figure] / max(a[figure], 1e-9) for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(each), min(each), max(each)


def median(answers, figure="seconds"):
    return statistics.median(answer[figure] for answer in answers)


def as_text(ratio):
    """A ratio with its spread: "1.12 (1.05–1.20)"."""
    digits = 2 if ratio[0] < 10 else 0
    middle, least, most = (f"{value:.{digits}f}" for value in ratio)
    return f"{middle} ({least}–{most})"


def print_table(header, rows):
    """Columns as wide as they have to be; the first to the left, the others to the right."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def machine():
    """The machine in words, and how busy it is: a load well above 0 before we begin makes every time doubtful."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores{load}"
