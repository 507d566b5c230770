"""A W&B server in a thread: as much of it as a run, a sync and a workspace need. Not a test."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "a" * 40


class Backend:
    """What was sent to it, and how it answers.

    Args:
        fails: whenever a run has started well, so in its middle.
        status: what every request gets from there; None drops the connection.
    """

    def __init__(self, fails: bool = False, status: int | None = None) -> None:
        self.fails, self.status, self.failed = fails, status, 0
        self.rows: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.files: list[str] = []
        self.tables: list[str] = []
        self.url = ""

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]] | None:
        """Return status and answer; None drops the connection."""
        if self.fails and self.runs:
            self.failed += 1
            return None if self.status is None else (self.status, {})
        if path.endswith("/file_stream"):
            content = json.loads(body)["files"].get("wandb-history.jsonl", {}).get("content", [])
            self.rows += [json.loads(line) for line in content]
            return 200, {}
        if path != "/graphql":
            return 200, {}
        sent = json.loads(body)
        return 200, {"data": self.data(sent["query"], sent.get("variables") or {})}

    def data(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return what GraphQL answers."""
        project = {"id": "p", "name": "mmeq-test", "entity": {"id": "e", "name": "me"}}
        if "mutation UpsertBucket" in query:
            self.runs.append(given)
            bucket = {"id": "b", "name": given.get("name"), "displayName": "x", "config": "{}"}
            bucket |= {"description": "", "sweepName": None, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": None}}
        if "mutation CreateRunFiles" in query:
            self.files += given["files"]
            places = [{"name": n, "uploadUrl": f"{self.url}/put/{n}"} for n in given["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": places}}
        if "mutation UpsertView2" in query:
            self.views.append(given)
            return {"upsertView": {"view": {"id": "v", "name": given["name"]}, "inserted": True}}
        if "viewer" in query:
            teams = {"edges": []}
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "teams": teams}}
        if "query ArtifactType" in query:
            return {"project": None}
        if "mutation CreateArtifact " in query:
            self.tables.append(given["input"]["artifactCollectionName"])
            known = {"id": "s", "latestArtifact": {"id": "a", "versionIndex": 0}}
            made = {"id": "a", "state": "COMMITTED", "artifactSequence": known}
            return {"createArtifact": {"artifact": made}}
        return {}


@contextlib.contextmanager
def serving(backend: Backend) -> Iterator[Backend]:
    """Serve on a free port of this machine for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = backend.answer(self.path, body)
            if answer is None:
                self.close_connection = True
                return
            status, told = answer
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            """Be silent."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: object) -> None:
            """A client that leaves in the middle is no error here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        backend.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield backend
        finally:
            server.shutdown()
            thread.join()
