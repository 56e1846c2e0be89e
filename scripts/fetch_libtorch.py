"""Fetches libtorch out of the torch wheel of the user's package index. Started by src/libtorch/fetch.ts.

Python, because pip knows how this user reaches the index: mirrors, certificates, proxies, passwords. Only the
standard library and pip itself are used. Of the wheel a CPU needs a quarter, so that is read out of the remote
zip by HTTP ranges; a GPU needs the whole, which pip installs.

Argument: JSON {version, variant, arch, target, partial, tools}. Writes JSON lines to stdout: {"log"},
{"progress", "total"}, at the end {"done"} or {"error": kind, "what"}; pip's own words go to stderr.
"""

import errno
import json
import os
import posixpath
import re
import shutil
import struct
import sys

from remote_wheel import Wheel
from user_pip import FetchError, open_session, recent_pip, resolve, run_pip, tell, wheel_options


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
