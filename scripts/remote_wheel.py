"""Reads members of a wheel that lies on a package index, by HTTP ranges. Part of fetch_libtorch.py."""

import base64
import errno
import fcntl
import hashlib
import json
import os
import re
import time
import zipfile
from urllib.parse import unquote, urlsplit

from user_pip import FetchError, check_parent

CHUNK = 1 << 20
GAP = 1 << 18  # unwanted bytes worth reading rather than asking again
ATTEMPTS = 1 + int(os.environ.get("PIP_RETRIES") or 5)


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
