"""Type README's first commands as a newcomer does: a clone in a folder of another name, an empty home, no environment.

    python3 tests/first_steps.py            both pairs, plain Python's and uv's
    python3 tests/first_steps.py uv         one of them

JupyterLab is started for real and asked for the first lesson; `pytest` runs a solution and a file of unit tests instead
of everything. Each pair builds an environment of some 2.5 GB and removes it again, so `.ci/run` does this once and
`pytest` does not. This file needs nothing but Python, since it is there before anything is installed.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_LESSON = "00_start_here.ipynb"  # JupyterLab opened with a file has that file's folder as its root
A_FEW_TESTS = "notebooks/solutions/06_recall_at_k.ipynb tests/test_metrics.py"
MINUTES = 40  # to install everything over a slow line


def commands(readme):
    """README's pairs by name: what opens the course, and what tests it."""
    section = readme.split("\n## Two commands\n")[1].split("\n## ")[0]
    plain, plain_test, *with_uv = [
        line for block in re.findall(r"```bash\n(.*?)```", section, flags=re.S) for line in block.splitlines()
    ]
    opening, test = with_uv
    return {"pip": (plain, plain_test), "uv": (opening, test)}


def newcomers_environment(home):
    """The environment variables of someone who has Python and has never heard of this course.

    Kept are the way to the package registries and what was downloaded before (the caches of pip and uv), so that this
    takes a minute or two instead of ten.
    """
    kept = "PIP_ UV_ SSL_ REQUESTS_ LD_LIBRARY_PATH LANG LC_ TMPDIR http HTTP no_proxy NO_PROXY".split()
    environment = {name: value for name, value in os.environ.items() if name.startswith(tuple(kept))}
    environment.pop("UV_PROJECT_ENVIRONMENT", None)
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep) if folder]
    outside = [str(folder) for folder in folders if not (folder.parent / "pyvenv.cfg").exists()]
    uv = shutil.which("uv")
    caches = {"PIP_CACHE_DIR": [sys.executable, "-m", "pip", "cache", "dir"]}
    if uv:
        caches["UV_CACHE_DIR"] = [uv, "cache", "dir"]
        outside.append(str(Path(uv).parent))  # last, where it may stand in an environment of its own
    mine = Path.home() / ".config"
    for name, file in (("PIP_CONFIG_FILE", mine / "pip/pip.conf"), ("UV_CONFIG_FILE", mine / "uv/uv.toml")):
        if file.exists():
            environment.setdefault(name, str(file))
    for name, command in caches.items():
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode == 0:
            environment.setdefault(name, answer.stdout.strip())
    quiet = home / ".jupyter"  # what a newcomer has not: here nobody looks at a browser, and root may test
    quiet.mkdir()
    settings = {"ServerApp": {"open_browser": False, "allow_root": True}}
    (quiet / "jupyter_server_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return environment | {"HOME": str(home), "PATH": os.pathsep.join(outside), "COLUMNS": "120"}


def open_course(command, clone, environment):
    """Start JupyterLab as README says, ask it for the first lesson and a kernel, and stop it; how long it took."""
    started = time.monotonic()
    lab = subprocess.Popen(
        command, shell=True, cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8", start_new_session=True,
    )  # fmt: skip
    limit = threading.Timer(MINUTES * 60, lambda: os.killpg(lab.pid, signal.SIGKILL))
    limit.start()
    told, address = [], None
    try:
        for line in lab.stdout:
            told.append(line)
            address = re.search(r"(http://(?:localhost|127\.0\.0\.1):\d+)/\S*[?&]token=(\w+)", line)
            if address:
                break
        assert address, "JupyterLab printed no address:\n" + "".join(told[-40:])
        # Its messages must be read on, or it waits for room in the pipe.
        threading.Thread(target=lab.stdout.read, daemon=True).start()
        lesson = ask(*address.groups(), f"/api/contents/{FIRST_LESSON}")
        seconds = time.monotonic() - started
        assert lesson["type"] == "notebook" and lesson["content"]["cells"], lesson
        kernel = ask(*address.groups(), "/api/kernels", method="POST")
        assert kernel["name"] == "python3", kernel
        return seconds
    finally:
        limit.cancel()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(lab.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                lab.wait(30)


def ask(address, token, path, method="GET"):
    """JupyterLab's answer; on a busy machine it tells its address some time before it listens."""
    headers = {"Authorization": f"token {token}"}
    request = urllib.request.Request(address + path, method=method, headers=headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine, past any proxy
    for seconds_left in reversed(range(120)):
        try:
            with direct.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.URLError as error:
            if not seconds_left or not isinstance(error.reason, ConnectionRefusedError):
                raise
            time.sleep(1)


def run_tests(command, clone, environment):
    """Type the test command; a variable makes the selection small. The seconds, and the line that pytest ends with."""
    started = time.monotonic()
    run = subprocess.run(
        command, shell=True, cwd=clone, env=environment | {"PYTEST_ADDOPTS": A_FEW_TESTS}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", timeout=MINUTES * 60,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]
    summary = run.stdout.splitlines()[-1]
    assert re.search(r"\b[1-9]\d* passed\b", summary) and "failed" not in summary, run.stdout[-4000:]
    return time.monotonic() - started, summary.strip("= ")


def main():
    pairs = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    for name in sys.argv[1:] or pairs:
        with tempfile.TemporaryDirectory(prefix="first steps ", ignore_cleanup_errors=True) as folder:
            home, clone = Path(folder, "home"), Path(folder, "somewhere else")
            home.mkdir()
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
            environment = newcomers_environment(home)
            opening, test = pairs[name]
            assert shlex.split(opening)[0] == {"pip": "python3", "uv": "uv"}[name], opening
            print(f"{name}: {opening}", flush=True)
            print(
                f"{name}: JupyterLab shows the first lesson after {open_course(opening, clone, environment):.0f} s"
            )
            print(f"{name}: {test}", flush=True)
            print("{}: {:.0f} s, {}".format(name, *run_tests(test, clone, environment)), flush=True)
            unknown = subprocess.check_output(["git", "-C", str(clone), "status", "--porcelain"], text=True)
            assert not unknown, f"these commands leave something behind that git does not ignore:\n{unknown}"


if __name__ == "__main__":
    main()
