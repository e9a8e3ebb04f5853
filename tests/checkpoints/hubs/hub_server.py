"""A hub on localhost that speaks the few words which the two libraries use to list and fetch a model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 1000  # bytes from which a file is large to this hub: its SHA-256 is stated


class Hub:
    """Repositories as tables of bytes, and the faults that tests ask for."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, dict[str, bytes]]] = {}  # name -> revision -> file -> content
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.cut_after: dict[str, int] = {}  # file -> bytes of its first answer, then the connection ends
        self.altered: dict[str, bytes] = {}  # file -> what is served in its place
        self.fetched: Counter[str] = Counter()  # file -> answers with content
        self.ranges: list[str] = []  # what was asked for in parts
        self.asked = 0
        self.url = ""

    def publish(self, name: str, files: dict[str, bytes], revision: str = "main") -> None:
        self.models.setdefault(name, {})[revision] = files

    def commit(self, name: str, revision: str) -> str:
        return hashlib.sha1(repr((name, sorted(self.models[name][revision].items()))).encode()).hexdigest()


def facts(content: bytes) -> tuple[str, str | None]:
    """(git's name of the content, its SHA-256 if the hub states one)."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return oid, hashlib.sha256(content).hexdigest() if len(content) >= LARGE else None


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        return

    def do_GET(self) -> None:
        self.hub.asked += 1
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        if parts[:3] == ["api", "v1", "models"]:
            self._modelscope("/".join(parts[3:5]), parts[5:], query)
        elif parts[:2] == ["api", "models"]:
            self._hugging_face("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._json(404, {})

    do_HEAD = do_GET  # noqa: N815  (the name that http.server calls)

    def _revision(self, name: str, revision: str) -> str | None:
        """The revision that is meant, by its own name or its commit."""
        return next((known for known in self.hub.models[name] if revision in (known, self.hub.commit(name, known))), None)

    def _refuses(self, name: str) -> bool:
        if name in self.hub.gated:
            self._json(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        elif name not in self.hub.models or name in self.hub.private:
            self._json(401, {"error": "Invalid username or password."})  # what the real one says to strangers in both cases
        else:
            return False
        return True

    def _hugging_face(self, name: str, rest: list[str]) -> None:
        if self._refuses(name):
            return
        revision = self._revision(name, rest[1] if len(rest) > 1 else "main")
        if revision is None:
            self._json(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
            return
        files: list[dict[str, Any]] = []
        is_tree = rest[:1] == ["tree"]
        for path, content in self.hub.models[name][revision].items():
            oid, sha256 = facts(content)
            entry: dict[str, Any] = {"size": len(content)}
            entry |= {"type": "file", "path": path, "oid": oid} if is_tree else {"rfilename": path, "blobId": oid}
            if sha256:
                entry["lfs"] = {"size": len(content), "pointerSize": 130, "oid" if is_tree else "sha256": sha256}
            files.append(entry)
        commit = self.hub.commit(name, revision)
        self._json(200, files if is_tree else {"id": name, "modelId": name, "sha": commit, "siblings": files})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        known = None if self._refuses(name) else self._revision(name, revision)
        if known is not None:
            content = self.hub.models[name][known][path]
            oid, sha256 = facts(content)
            self._content(path, content, {"X-Repo-Commit": self.hub.commit(name, known), "ETag": f'"{sha256 or oid}"'})

    def _modelscope(self, name: str, rest: list[str], query: dict[str, str]) -> None:
        if name not in self.hub.models or name in self.hub.private:
            self._json(404, {"Code": 10010205001, "Message": f"{name} does not exist", "Success": False})
            return
        revision = query.get("Revision", "master").replace("master", "main")
        if revision not in self.hub.models[name]:
            self._json(404, {"Code": 10010205002, "Message": f"revision {revision} does not exist", "Success": False})
        elif rest == ["repo"]:
            path = query["FilePath"]
            self._content(path, self.hub.models[name][revision][path], {})
        else:
            files = [
                {"Path": path, "Name": path, "Type": "blob", "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest()}
                for path, content in self.hub.models[name][revision].items()
            ]
            self._json(200, {"Code": 200, "Success": True, "Data": {"Files": files}})

    def _content(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        content = self.hub.altered.get(path, content)
        status, start, asked = 200, 0, self.headers.get("Range")
        if asked:
            status, start = 206, int(asked.removeprefix("bytes=").split("-")[0])
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content) - start), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.fetched[path] += 1
        if asked:
            self.hub.ranges.append(f"{path} {asked}")
        end = self.hub.cut_after.pop(path, len(content))
        self.wfile.write(content[start:end])
        if end < len(content):
            self.close_connection = True

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers at ``hub.url`` until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
