"""A server that speaks the Hugging Face Hub's protocol, for model repositories kept in memory.

As on the Hub, large files (here *.safetensors) are redirected to a CDN of another origin, which is another port here.
Xet storage is not spoken: downloads never ask for it, uploads need HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from servers.local import NO_HEADERS, FileServer, LocalServer, Request

TOKEN = "hf_test"  # may read gated repositories, and write

REPO = r"(?P<name>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES = (
    ("GET|HEAD", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)", "_resolve"),
    ("GET", rf"/api/models/{REPO}(?:/revision/{REVISION})?", "_info"),
    ("POST", "/api/validate-yaml", "_validate_yaml"),
    ("POST", "/api/repos/create", "_create"),
    ("POST", rf"/api/models/{REPO}/preupload/{REVISION}", "_preupload"),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", "_batch"),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", "_put"),
    ("POST", rf"/api/models/{REPO}/commit/{REVISION}", "_commit"),
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(".safetensors")


class Refusal(Exception):
    """An answer that is an error, with the code by which huggingface_hub tells them apart."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] = NO_HEADERS, **more: str):
        super().__init__(message)
        self.status, self.body = status, {"error": message, **more}
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **headers}


@dataclass
class Repo:
    """A model repository: its branches and tags, and the files of each commit."""

    revisions: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    gated: bool = False

    @classmethod
    def of(cls, files: Mapping[str, bytes], gated: bool = False) -> Self:
        """A repository of one commit, on main."""
        repo = cls({}, {}, gated)
        repo.commit(files)
        return repo

    def commit(self, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Move a revision on to a new commit that has exactly these files. Returns its hash."""
        tree = [(path, sha256(content)) for path, content in sorted(files.items())]
        commit = hashlib.sha1(repr((len(self.commits), tree)).encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.revisions[revision] = commit
        return commit

    def at(self, revision: str) -> str:
        """The commit of a branch, a tag or a hash. Raises Refusal."""
        commit = self.revisions.get(revision, revision)
        if commit not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


class HubServer(LocalServer):
    """The Hub, with repositories by "owner/name". The log and the faults are also its CDN's."""

    not_logged = frozenset({"/api/agent-harnesses"})  # huggingface_hub asks once a process, and can do without

    def __init__(self, repos: dict[str, Repo]) -> None:
        super().__init__()
        self.repos = repos
        self.cdn = FileServer({}, self.faults, self.log)

    def __enter__(self) -> Self:
        self.cdn.__enter__()
        return super().__enter__()

    def stop(self) -> None:
        super().stop()
        self.cdn.stop()

    def answer(self, request: Request) -> None:
        path = urlsplit(request.path).path
        try:
            if (request.headers["Authorization"] or f"Bearer {TOKEN}") != f"Bearer {TOKEN}":
                raise Refusal(401, "Invalid credentials in Authorization header")
            for methods, pattern, name in ROUTES:
                if request.command in methods.split("|") and (match := re.fullmatch(pattern, path)):
                    if request.command == "POST" and "Authorization" not in request.headers:
                        raise Refusal(401, "Invalid username or password.")
                    found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                    getattr(self, name)(request, **found)
                    return
            raise Refusal(404, "Sorry, we can't find the page you are looking for.")
        except Refusal as refusal:
            request.send_json(refusal.body, refusal.status, refusal.headers)

    def _repo(self, request: Request, name: str) -> Repo:
        if name not in self.repos:
            # Without a token the Hub does not say what there is. It sends no code with 401; huggingface_hub looks at
            # the address instead, which must begin with https, so without one it would raise something else.
            raise Refusal(404 if "Authorization" in request.headers else 401, "Repository not found", "RepoNotFound")
        return self.repos[name]

    def _resolve(self, request: Request, name: str, revision: str, path: str) -> None:
        repo = self._repo(request, name)
        if repo.gated and "Authorization" not in request.headers:
            raise Refusal(401, f"Access to model {name} is restricted.", "GatedRepo")
        commit = repo.at(revision)
        headers = {"X-Repo-Commit": commit}
        content = repo.commits[commit].get(path)
        if content is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", headers)
        if not is_large(path):
            request.send_file(content, f'"{git_sha1(content)}"', headers)
            return
        self.cdn.files[f"/cdn/{sha256(content)}"] = content
        headers |= {
            "X-Linked-Etag": f'"{sha256(content)}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.cdn.url}/cdn/{sha256(content)}?filename={quote(path)}",
        }
        request.send(302, b"Found. Redirecting.", headers)

    def _info(self, request: Request, name: str, revision: str = "main") -> None:
        repo = self._repo(request, name)
        commit = repo.at(revision)
        siblings = [{"rfilename": path} for path in repo.commits[commit]]
        request.send_json({"id": name, "modelId": name, "sha": commit, "gated": False, "siblings": siblings})

    def _validate_yaml(self, request: Request) -> None:
        request.send_json({"errors": [], "warnings": []})

    def _create(self, request: Request) -> None:
        body = json.loads(request.body)
        name = f"{body['organization']}/{body['name']}"
        if name in self.repos:
            raise Refusal(409, "You already created this model repo", url=f"{self.url}/{name}")
        self.repos[name] = Repo.of({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        request.send_json({"url": f"{self.url}/{name}", "name": name, "id": name})

    def _preupload(self, request: Request, name: str, revision: str) -> None:
        repo = self._repo(request, name)
        existing = repo.commits[repo.at(revision)]
        files = []
        for path in (file["path"] for file in json.loads(request.body)["files"]):
            oid = (sha256 if is_large(path) else git_sha1)(existing[path]) if path in existing else None
            mode = "lfs" if is_large(path) else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        request.send_json({"files": files})

    def _batch(self, request: Request, name: str) -> None:
        self._repo(request, name)
        objects = []
        for wanted in json.loads(request.body)["objects"]:
            known = f"/cdn/{wanted['oid']}" in self.cdn.files
            actions = {"actions": {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}}}
            objects.append(wanted if known else {**wanted, **actions})
        request.send_json({"transfer": "basic", "objects": objects})

    def _put(self, request: Request, oid: str) -> None:
        if sha256(request.body) != oid:
            raise Refusal(400, "The bytes are not those announced.")
        self.cdn.files[f"/cdn/{oid}"] = request.body
        request.send_json({})

    def _commit(self, request: Request, name: str, revision: str) -> None:
        repo = self._repo(request, name)
        with self.lock:
            head = repo.at(revision)
            files = dict(repo.commits[head])
            for line in request.body.splitlines():
                self._apply(json.loads(line), head, files)
            commit = repo.commit(files, revision)
        request.send_json({"success": True, "commitOid": commit, "commitUrl": f"{self.url}/{name}/commit/{commit}"})

    def _apply(self, operation: dict[str, Any], head: str, files: dict[str, bytes]) -> None:
        """Change files as one line of a commit says."""
        value = operation["value"]
        match operation["key"]:
            case "header":
                if value.get("parentCommit", head) != head:
                    raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                if f"/cdn/{value['oid']}" not in self.cdn.files:
                    raise Refusal(400, "Your push was rejected because an LFS pointer pointed to a missing object.")
                files[value["path"]] = self.cdn.files[f"/cdn/{value['oid']}"]
