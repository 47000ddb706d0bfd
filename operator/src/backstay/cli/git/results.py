"""Print what came of a command: sentences for people, JSON or YAML for scripts."""

from collections.abc import Callable, Mapping
from typing import Any

from backstay.cli import terminal
from backstay.cli.options import Output


def show(result: Mapping[str, Any], output: Output, text: Callable[[Mapping[str, Any]], str]) -> None:
    """Print a result; ``text`` words it for people."""
    match output:
        case Output.JSON:
            terminal.say_json(result)
        case Output.YAML:
            terminal.say_yaml(dict(result), width=120, whole_lines=True)
        case Output.TEXT:
            terminal.say(text(result))


def changed(result: Mapping[str, Any]) -> str:
    """Word what came of a change of Git."""
    environment, application, version = result["environment"], result["application"], result["to"]
    match result["outcome"]:
        case "committed":
            return f"{environment} declares version {version} of {application} now: commit {result['commit'][:12]}"
        case "unchanged":
            return f"nothing to do: {environment} declares version {version} of {application} already"
        case "pullRequest":
            request = result["pullRequest"]
            verb = "opened" if request["opened"] else "brought up to date"
            return f"pull request {request['number']} {verb}: {request['title']}\n{request['url']}"
        case _:
            return _dry(result)


def _dry(result: Mapping[str, Any]) -> str:
    request = result.get("pullRequest")
    words = (
        f"pull request from {request['branch']}\nlabels: {', '.join(request['labels'])}\n\n"
        f"{request['title']}\n\n{request['body'].rstrip()}"
        if request
        else f"commit\n\n{result['message'].rstrip()}"
    )
    return f"{result['diff']}\n{words}\n\nNothing was written."
