"""The playground's Gitea as a person with a token uses it: its account, organisation, repositories, pushes."""

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from backstay_playground.component import Setting
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import remove_path, write_private
from backstay_playground.supporting import gitea_config
from backstay_playground.tools import run_tool

USER = "playground"
ORGANISATION = "models"
IN_CLUSTER_URL = "http://gitea.forge:3000"
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Gitea:
    """Where Gitea listens on this machine, and as whom to talk to it; the token is left out of `repr`."""

    url: str
    user: str
    token: str = field(repr=False)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Call Gitea's API: `path` below /api/v1, `body` sent as JSON."""
        headers = {"Authorization": f"token {self.token}"}
        with httpx.Client(base_url=f"{self.url}/api/v1", trust_env=False, timeout=_TIMEOUT_SECONDS) as client:
            return client.request(method, path, json=body, headers=headers)

    def create_organisation(self, name: str) -> None:
        """Create an organisation unless it exists."""
        _expect(self.call("POST", "/orgs", {"username": name}), {201, 422}, f"create the organisation {name}")

    def create_repository(self, name: str, *, organisation: str = ORGANISATION) -> str:
        """Create an empty repository with the branch main unless it exists; return its URL on this machine."""
        answer = self.call("POST", f"/orgs/{organisation}/repos", {"name": name, "default_branch": "main"})
        _expect(answer, {201, 409}, f"create the repository {organisation}/{name}")
        return f"{self.url}/{organisation}/{name}.git"

    def delete_repository(self, name: str, *, organisation: str = ORGANISATION) -> None:
        """Delete a repository if it exists."""
        answer = self.call("DELETE", f"/repos/{organisation}/{name}")
        _expect(answer, {204, 404}, f"delete the repository {organisation}/{name}")

    def push_folder(self, folder: Path, *, repository: str, message: str) -> str:
        """Make the content of `folder` the whole content of the branch main, in one commit; return the commit.

        The repository is created when it is not there. A commit is made only where something differs.
        """
        url = self.create_repository(repository)
        with tempfile.TemporaryDirectory(prefix="backstay-push-") as place:
            work = Path(place) / "work"
            self.git("clone", "--quiet", url, str(work))
            self.git("symbolic-ref", "HEAD", "refs/heads/main", cwd=work)
            for entry in work.iterdir():
                if entry.name != ".git":
                    remove_path(entry)
            shutil.copytree(folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
            self.git("add", "--all", cwd=work)
            if self.git("status", "--porcelain", cwd=work):
                self.git("commit", "--quiet", "--message", message, cwd=work)
                self.git("push", "--quiet", "origin", "main", cwd=work)
            return self.git("rev-parse", "HEAD", cwd=work).strip()

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run git with this account's credentials, which appear in no process list and no file; return its output.

        Raises:
            PlaygroundError: git fails; the text holds its message.
        """
        answer = subprocess.run(
            ["git", *args], cwd=cwd, env=self.git_environment(), capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise PlaygroundError(f"git {args[0]} failed: {answer.stderr.strip()[-1500:]}")
        return answer.stdout

    def git_environment(self) -> dict[str, str]:
        """Return an environment in which git is this account and reads nobody's configuration."""
        basic = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
        person = {"NAME": self.user, "EMAIL": f"{self.user}@playground.invalid"}
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{self.url}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
            "GIT_TERMINAL_PROMPT": "0",
            **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()},
        }


def _expect(answer: httpx.Response, codes: set[int], what: str) -> None:
    if answer.status_code not in codes:
        raise PlaygroundError(f"Gitea did not {what}: {answer.status_code} {answer.text[:500]}")


def parse_token(output: str) -> str:
    """Return the access token that `gitea admin user create --access-token` printed.

    Raises:
        PlaygroundError: it printed none.
    """
    match = re.search(r"token was successfully created\W+([0-9a-f]{40})", output)
    if match is None:
        raise PlaygroundError("Gitea created its administrator without a token; `down` and `up` start over.")
    return match[1]


def create_account(setting: Setting) -> Gitea:
    """Create the administrator with a token, once, and the organisation; the token stays in the state folder.

    Raises:
        PlaygroundError: Gitea refuses.
    """
    file = setting.layout.gitea_token
    if not file.exists():
        command = [str(setting.binaries["gitea"]), "admin", "user", "create", f"--config={gitea_config(setting)}"]
        command += ["--admin", f"--username={USER}", f"--email={USER}@playground.invalid", "--random-password"]
        command += ["--must-change-password=false"]
        command += ["--access-token", "--access-token-name=playground", "--access-token-scopes=all"]
        env = {**os.environ, "GITEA_WORK_DIR": str(setting.layout.data("gitea"))}
        output = run_tool(command, env=env, what="Gitea's administrator")
        write_private(file, parse_token(output))
    account = connect(setting)
    account.create_organisation(ORGANISATION)
    return account


def connect(setting: Setting) -> Gitea:
    """Return the account that `create_account` made.

    Raises:
        PlaygroundError: there is none yet.
    """
    file = setting.layout.gitea_token
    if not file.exists():
        raise PlaygroundError("The playground's Gitea has no account yet; run `up` first.")
    return Gitea(setting.url("gitea"), USER, file.read_text(encoding="utf-8").strip())
