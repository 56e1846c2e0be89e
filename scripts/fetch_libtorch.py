"""Fetches libtorch out of the torch wheel of the user's package index. Started by src/libtorch/fetch.ts.

Python, because pip knows how this user reaches the index: mirrors, certificates, proxies, passwords. Only the
standard library and pip itself are used. Of the wheel a CPU needs a quarter, so that is read out of the remote
zip by HTTP ranges; a GPU needs the whole, which pip installs.

Argument: JSON {version, variant, arch, target, partial, tools}. Writes JSON lines to stdout: {"log"},
{"progress", "total"}, at the end {"done"} or {"error": kind, "what"}; pip's own words go to stderr.
"""

import base64
import errno
import fcntl
import hashlib
import json
import os
import posixpath
import re
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from urllib.parse import unquote, urlsplit

PIP_PINNED = "pip>=26,<27"  # the first whose `--report` does not download the whole wheel
WHEEL_PYTHON = "3.12"  # any CPython's wheel holds the same libraries
CHUNK = 1 << 20
GAP = 1 << 18  # unwanted bytes worth reading rather than asking again
ATTEMPTS = 1 + int(os.environ.get("PIP_RETRIES") or 5)
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


# ---------------------------------------------------------------------------------------------------- pip


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


# ------------------------------------------------------------------------------------------ a remote file


class RemoteFile:
    """A file on the index, seekable. What was read is kept in a sparse file beside a list of its ranges, so that
    an interrupted fetch goes on where it stopped."""

    def __init__(self, url, session, folder):
        self.url, self.session, self.position = url, session, 0
        self.on_bytes = lambda count: None
        key = hashlib.sha256(url.encode()).hexdigest()[:24]
        self.path = os.path.join(folder, f"{key}.part")
        self.journal = os.path.join(folder, f"{key}.json")
        os.makedirs(folder, exist_ok=True)
        self.file = open(self.path, "r+b" if os.path.exists(self.path) else "w+b")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.ranges, self.size = [], None
        try:
            with open(self.journal, encoding="utf-8") as file:
                state = json.load(file)
            self.ranges, self.size = [list(r) for r in state["ranges"]], state["size"]
        except (OSError, ValueError, KeyError):
            pass
        if self.size is None:
            self._fetch(None, None)

    def _request(self, begin, end):
        headers = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        headers["Range"] = "bytes=-65536" if begin is None else f"bytes={begin}-{end - 1}"
        response = self.session.get(self.url, headers=headers, stream=True)
        if response.status_code in (401, 403, 407):
            raise FetchError("network", f"the package index refuses access (HTTP {response.status_code})")
        response.raise_for_status()
        return response

    def _fetch(self, begin, end):
        """Reads a range, or with None the file's end (which also tells its size)."""
        for attempt in range(ATTEMPTS):
            try:
                return self._fetch_once(begin, end)
            except FetchError:
                raise
            except OSError as error:  # requests' errors are OSErrors, too
                if error.errno == errno.ENOSPC:
                    raise FetchError("no-space", "the disk is full") from error
                if attempt == ATTEMPTS - 1:
                    raise FetchError("network", str(error)) from error
            except Exception as error:  # urllib3's own, from the middle of a stream
                if attempt == ATTEMPTS - 1:
                    raise FetchError("network", str(error)) from error
            time.sleep(min(2**attempt, 20))
            if begin is not None:
                begin = next(iter(self.missing(begin, end)), (end, end))[0]
                if begin >= end:
                    return

    def _fetch_once(self, begin, end):
        response = self._request(begin, end)
        with response:
            content_range = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if response.status_code == 206 and content_range:
                position, self.size = int(content_range.group(1)), int(content_range.group(2))
            else:  # a server without ranges sends everything: keep everything
                position, self.size = 0, int(response.headers["Content-Length"])
            for block in response.iter_content(CHUNK):
                check_parent()
                self.file.seek(position)
                self.file.write(block)
                self.on_bytes(len(block))
                self._add(position, position + len(block))
                position += len(block)

    def _add(self, begin, end):
        self.ranges.append([begin, end])
        self.ranges.sort()
        merged = [self.ranges[0]]
        for low, high in self.ranges[1:]:
            if low <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self.ranges = merged
        self.file.flush()
        with open(self.journal + ".new", "w", encoding="utf-8") as file:
            json.dump({"size": self.size, "ranges": self.ranges}, file)
        os.replace(self.journal + ".new", self.journal)

    def missing(self, begin, end):
        """The parts of [begin, end) that are not here yet."""
        for low, high in self.ranges:
            if high <= begin or low >= end:
                continue
            if low > begin:
                yield (begin, low)
            begin = max(begin, high)
        if begin < end:
            yield (begin, end)

    def ensure(self, begin, end):
        for low, high in list(self.missing(begin, end)):
            self._fetch(low, high)

    def discard(self):
        self.file.close()
        for path in (self.path, self.journal):
            if os.path.exists(path):
                os.remove(path)

    # What zipfile needs of a file.
    def seekable(self):
        return True

    def tell(self):
        return self.position

    def seek(self, offset, whence=0):
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def read(self, count=-1):
        end = self.size if count is None or count < 0 else min(self.position + count, self.size)
        self.ensure(self.position, end)
        self.file.seek(self.position)
        data = self.file.read(end - self.position)
        self.position += len(data)
        return data

    def close(self):
        self.file.close()


class Wheel:
    """Members of a wheel, near or far, each checked against the wheel's RECORD."""

    def __init__(self, url, session, folder):
        parts = urlsplit(url)
        self.remote = None
        if parts.scheme == "file":
            self.zip = zipfile.ZipFile(unquote(parts.path))
        else:
            self.remote = RemoteFile(url, session, folder)
            self.zip = zipfile.ZipFile(self.remote)
        self.members = {info.filename: info for info in self.zip.infolist() if not info.is_dir()}
        record = next(name for name in self.members if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
        self.record = {}
        for line in self.zip.read(record).decode().splitlines():
            name, digest, _ = line.rsplit(",", 2)
            self.record[name.strip('"')] = digest

    def spans(self, names):
        """Byte ranges that hold these members, neighbours joined. A member ends where the next one begins."""
        starts = sorted(info.header_offset for info in self.members.values())
        ends = dict(zip(starts, [*starts[1:], self.zip.start_dir]))
        joined = []
        for begin in sorted(self.members[name].header_offset for name in names):
            if joined and begin - joined[-1][1] <= GAP:
                joined[-1][1] = ends[begin]
            else:
                joined.append([begin, ends[begin]])
        return joined

    def to_fetch(self, names):
        if not self.remote:
            return 0
        return sum(h - l for span in self.spans(names) for l, h in self.remote.missing(*span))

    def extract(self, names, target):
        if self.remote:
            for span in self.spans(names):
                self.remote.ensure(*span)
        for name in names:
            check_parent()
            path = os.path.normpath(os.path.join(target, name))
            if not path.startswith(os.path.normpath(target) + os.sep):
                raise FetchError("damaged", f"the wheel has a member outside its folder: {name}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            digest = hashlib.sha256()
            try:
                with self.zip.open(name) as source, open(path, "wb") as out:
                    while block := source.read(CHUNK):
                        digest.update(block)
                        out.write(block)
            except (zipfile.BadZipFile, zipfile.zlib.error) as error:
                raise FetchError("damaged", f"{name}: {error}") from error
            expected = self.record.get(name, "")
            found = "sha256=" + base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
            if expected and found != expected:
                raise FetchError("damaged", f"{name} does not match the wheel's RECORD")
            if not expected and not name.endswith(".dist-info/RECORD"):
                raise FetchError("damaged", f"{name} is not in the wheel's RECORD")
            if name.endswith(".so") or ".so." in name:
                os.chmod(path, 0o755)


# ---------------------------------------------------------------------------------------------- libraries


def needed(path):
    """DT_NEEDED of a 64-bit little-endian ELF library (System V gABI, chapter 5)."""
    with open(path, "rb") as file:
        header = file.read(64)
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        table = file.read(size * count)
        loads, dynamic = [], None
        for i in range(count):
            kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", table, i * size)
            if kind == 1:
                loads.append((at, address, length))
            elif kind == 2:
                dynamic = (at, length)
        if not dynamic:
            return []
        file.seek(dynamic[0])
        entries = list(struct.iter_unpack("<qQ", file.read(dynamic[1])))
        tags = dict(reversed(entries))
        at, address, _ = next(s for s in loads if s[1] <= tags[5] < s[1] + s[2])
        file.seek(tags[5] - address + at)
        strings = file.read(tags[10])
        return [strings[v : strings.index(b"\0", v)].decode() for tag, v in entries if tag == 1]


def unmarked(requirement):
    """`nvidia-x==1; platform_system == "Linux"` → `nvidia-x==1`; None where an extra must be asked for."""
    name, _, marker = requirement.partition(";")
    return None if "extra ==" in marker else name.strip()


def nvidia_requirements(requires):
    plain = [r for r in map(unmarked, requires) if r]
    return [r for r in plain if re.match(r"(nvidia-|cuda-toolkit)", r)]


def requirement_for(library, requires):
    """The requirement of torch that brings libcudart.so.13 or libcupti.so.13."""
    part = {"libcudart": "cudart", "libcupti": "cupti"}.get(library.split(".so")[0])
    old = {"cudart": "nvidia-cuda-runtime", "cupti": "nvidia-cuda-cupti"}
    for requirement in nvidia_requirements(requires):
        toolkit = re.match(r"cuda-toolkit\[([^\]]*)\](.*)", requirement)
        if part and toolkit and part in toolkit.group(1).split(","):
            return f"cuda-toolkit[{part}]{toolkit.group(2)}"
        if part and requirement.startswith(old[part]):
            return requirement
    return None


def is_system_library(name):
    return re.match(r"(lib(c|m|dl|rt|pthread|util|gcc_s|stdc\+\+)\.so|ld-linux)", name) is not None


def fetch_cpu(job):
    pip_folder = recent_pip(job["tools"])
    tell(log=f"asking the package index for torch {job['version']}")
    torch = resolve([f"torch=={job['version']}"], job, pip_folder, deps=False)[0]
    session = open_session(pip_folder)
    wheel = Wheel(torch["url"], session, job["partial"])
    libraries = {posixpath.basename(n): n for n in wheel.members if re.match(r"torch(/lib|\.libs)/[^/]+\.so", n)}
    names = [n for n in wheel.members if n.startswith("torch/include/") or re.fullmatch(r"torch/version\.py", n)]
    names += [n for n in wheel.members if re.match(r"torch-[^/]+\.dist-info/(METADATA|RECORD|LICEN|NOTICE)", n)]
    # What these need in turn, they say themselves once they are here.
    first = [member for name, member in libraries.items() if re.match(r"lib(c10|torch_cpu)\.so|libgomp", name)]
    names += [n for n in first if n not in names]

    done = [0]
    total = wheel.to_fetch(names)

    def count(bytes_read):
        done[0] += bytes_read
        tell(progress=min(done[0], total), total=total)

    if wheel.remote:
        wheel.remote.on_bytes = count
        tell(progress=0, total=total)
    wheel.extract(names, job["target"])

    # Follow NEEDED: other wheels (arm64, CPU-only) hold another set.
    pending, seen, foreign = list(first), set(first), []
    while pending:
        for library in needed(os.path.join(job["target"], pending.pop())):
            member = libraries.get(library)
            if member and member not in seen:
                seen.add(member)
                pending.append(member)
                wheel.extract([member], job["target"])
            elif not member and not is_system_library(library) and library not in foreign:
                foreign.append(library)
    fetch_foreign(foreign, torch, job, pip_folder, session)
    return wheel


def fetch_foreign(libraries, torch, job, pip_folder, session):
    """Libraries of NVIDIA that even the CPU half of a CUDA wheel names."""
    wanted = {library: requirement_for(library, torch["requires"]) for library in libraries}
    lost = [library for library, requirement in wanted.items() if not requirement]
    if lost:
        raise FetchError("pip", f"torch needs {', '.join(lost)}, and none of its requirements is known to bring it")
    if not wanted:
        return
    tell(log=f"fetching {', '.join(wanted)}")
    left = set(wanted)
    for package in resolve(sorted(set(wanted.values())), job, pip_folder, deps=True):
        wheel = Wheel(package["url"], session, job["partial"])
        names = [name for name in wheel.members if posixpath.basename(name) in left]
        wheel.extract(names, job["target"])
        left -= {posixpath.basename(name) for name in names}
    if left:
        raise FetchError("damaged", f"the packages of NVIDIA lack {', '.join(sorted(left))}")


def fetch_cuda(job):
    """The whole wheel and NVIDIA's packages; not torch's Python dependencies, which nothing here imports."""
    pip_folder = recent_pip(job["tools"])
    torch = resolve([f"torch=={job['version']}"], job, pip_folder, deps=False)[0]
    nvidia = nvidia_requirements(torch["requires"])
    line = next((m.group(1) for r in nvidia if (m := re.search(r"cuda-toolkit.*==(\d+\.\d+)", r))), None)
    if not nvidia:
        raise FetchError("no-version", f"the index offers torch {torch['version']} without CUDA")
    common = ["install", "--no-compile", "--target", job["target"], *wheel_options(job["arch"])]
    tell(log="installing torch with NVIDIA's packages (about 3 GB) with pip")
    run_pip([*common, "--no-deps", f"torch=={job['version']}"], pip_folder, quiet=False)
    # crt/host_defines.h, which cuda_runtime.h includes, has a package of its own.
    crt = [f"nvidia-cuda-crt=={line}.*"] if line else []
    run_pip([*common, "--upgrade", *nvidia, *crt], pip_folder, quiet=False)


def main():
    job = json.loads(sys.argv[1])
    os.makedirs(job["target"], exist_ok=True)
    if job["variant"] == "cuda":
        fetch_cuda(job)
    else:
        try:
            fetch_cpu(job)
        except FetchError as error:
            if error.kind != "damaged":
                raise
            # Bytes kept from an earlier attempt can be the bad ones: once more from nothing.
            tell(log=f"{error}; starting over")
            shutil.rmtree(job["partial"], ignore_errors=True)
            shutil.rmtree(job["target"], ignore_errors=True)
            fetch_cpu(job)
    tell(done=True)


if __name__ == "__main__":
    try:
        main()
    except FetchError as error:
        tell(error=error.kind, what=str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        tell(error="stopped", what="interrupted")
        sys.exit(130)
    except OSError as error:
        tell(error="no-space" if error.errno == errno.ENOSPC else "io", what=str(error))
        sys.exit(1)
