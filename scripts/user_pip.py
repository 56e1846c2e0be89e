"""pip as this user has configured it, and what goes wrong with it. Part of fetch_libtorch.py."""

import json
import os
import re
import shutil
import subprocess
import sys

PIP_PINNED = "pip>=26,<27"  # the first whose `--report` does not download the whole wheel
WHEEL_PYTHON = "3.12"  # any CPython's wheel holds the same libraries
PARENT = os.getppid()


class FetchError(Exception):
    def __init__(self, kind, what):
        super().__init__(what)
        self.kind = kind


def check_parent():
    """Nobody holds the lock for us any more when the process that started us was killed."""
    if os.getppid() != PARENT:
        raise FetchError("stopped", "the process that asked for libtorch is gone")


def tell(**fields):
    print(json.dumps(fields), flush=True)


def pip_environment(pip_folder=None):
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_ROOT_USER_ACTION="ignore", PIP_NO_INPUT="1")
    env.update(PIP_REQUIRE_VIRTUALENV="0", PIP_USER="0")  # everything goes into folders of our own
    if pip_folder:
        env["PYTHONPATH"] = pip_folder
    return env


def run_pip(arguments, pip_folder=None, quiet=True):
    """Quietly, pip's words are kept (all of them: why an index was skipped it says only with -vv)."""
    command = [sys.executable, "-m", "pip", *(["-vv"] if quiet else []), *arguments]
    result = subprocess.run(
        command,
        env=pip_environment(pip_folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else sys.stderr,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
    )
    if result.returncode == 0:
        return
    words = result.stdout.strip() if quiet else "its own message stands above"
    if "No module named pip" in words:
        raise FetchError("no-pip", f"{sys.executable} has no pip")
    if re.search(r"No space left|Errno 28", words):
        raise FetchError("no-space", "the disk is full")
    lines = [line.strip() for line in words.splitlines()]
    # pip says "no matching distribution" of an index that it could not reach, too.
    unreachable = [line for line in lines if re.match(r"Could not fetch URL .*(error|problem|refused|timed out)", line)]
    unreachable = [line for line in unreachable if not re.search(r"HTTP error: 404|\b404 Client Error", line)]
    if unreachable:
        raise FetchError("network", unreachable[0].replace(" - skipping", ""))
    detail = " ".join(line.replace("ERROR: ", "") for line in lines if line.startswith("ERROR: "))
    if "No matching distribution" in words:
        raise FetchError("no-version", detail)
    raise FetchError("pip", detail or " ".join(lines[-3:]) or f"pip ended with code {result.returncode}")


def pip_version(pip_folder=None):
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--version"],
        env=pip_environment(pip_folder), capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )
    found = re.match(r"pip (\d+)\.", result.stdout)
    if not found and "No module named pip" in result.stderr:
        raise FetchError("no-pip", f"{sys.executable} has no pip")
    return int(found.group(1)) if found else 0


def recent_pip(tools):
    """A folder with a pip that is new enough, for PYTHONPATH; None if the user's own is."""
    folder = os.path.join(tools, "pip-26")
    if not os.path.isdir(folder):
        if pip_version() == 26:
            return None
        tell(log="getting a recent pip (the installed one would download the whole wheel)")
        beside = f"{folder}.{os.getpid()}"
        os.makedirs(beside)
        try:
            run_pip(["install", "--no-deps", "--only-binary=:all:", "--target", beside, PIP_PINNED])
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def wheel_options(arch):
    """Options that make pip choose wheels for this machine whatever Python it runs on."""
    machine = {"x64": "x86_64", "arm64": "aarch64"}[arch]
    glibc = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.28"
    minor = int(glibc.split(".")[1])
    if minor < 28:
        raise FetchError("glibc", f"this system has {glibc}, the wheels of torch need 2.28")
    options = ["--python-version", WHEEL_PYTHON, "--implementation", "cp", "--only-binary=:all:"]
    for n in range(minor, 4, -1):
        options += ["--platform", f"manylinux_2_{n}_{machine}"]
    return options + ["--platform", f"manylinux2014_{machine}", "--platform", f"linux_{machine}"]


def resolve(requirements, job, pip_folder, deps):
    """What pip would install: a list of {url, name, requires}."""
    report = os.path.join(job["partial"], f"report-{os.getpid()}.json")
    os.makedirs(job["partial"], exist_ok=True)
    arguments = ["install", "--dry-run", "--ignore-installed", "--use-feature=fast-deps", "--report", report]
    arguments += ["--target", job["partial"], *wheel_options(job["arch"]), *([] if deps else ["--no-deps"])]
    try:
        run_pip([*arguments, *requirements], pip_folder)
        with open(report, encoding="utf-8") as file:
            items = json.load(file)["install"]
    finally:
        if os.path.exists(report):
            os.remove(report)
    return [
        {
            "url": item["download_info"]["url"],
            "name": item["metadata"]["name"],
            "version": item["metadata"]["version"],
            "requires": item["metadata"].get("requires_dist", []),
        }
        for item in items
    ]


def open_session(pip_folder):
    """pip's own HTTP session, with the user's settings of pip."""
    if pip_folder:
        sys.path.insert(0, pip_folder)
    os.environ.update(pip_environment())
    from pip._internal.commands.install import InstallCommand

    command = InstallCommand("install", "")
    options, _ = command.parse_args(["torch"])
    context = command.main_context()
    context.__enter__()  # for the life of this process
    return command.get_default_session(options)
