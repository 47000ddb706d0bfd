"""Which cluster a person means: their kubeconfig, read as kubectl reads it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from backstay.adapters.messages.plain import line
from backstay.cli.trouble import ANSWER_IS_NO, BAD_INPUT

_IN_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REMEDY = "name a kubeconfig by --kubeconfig or KUBECONFIG"


class ClusterError(Exception):
    """The cluster did not do what was asked; the message is a sentence, ``code`` how the command ends."""

    def __init__(self, sentence: str, code: int = ANSWER_IS_NO) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster and namespace a person means; empty fields are as in their kubeconfig."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""


def connection(place: Place) -> tuple[Any, str]:
    """Return the official client's configuration for a place, and the namespace that is meant.

    Raises:
        ClusterError: there is no kubeconfig, or it cannot be used.
    """
    from kubernetes import client, config  # noqa: PLC0415 - slow to import, and most commands need it not

    named = place.kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config"))
    files = [path for part in named.split(os.pathsep) if part and (path := Path(part).expanduser()).exists()]
    configuration = client.Configuration()
    if not files and not place.kubeconfig and not place.context and "KUBERNETES_SERVICE_HOST" in os.environ:
        with _explained("the pod's service account"):
            config.load_incluster_config(client_configuration=configuration)
            namespace = _IN_POD.read_text(encoding="utf-8").strip()
    else:
        if not files:
            raise ClusterError(f"there is no kubeconfig {named}: {_REMEDY}", BAD_INPUT)
        with _explained(f"the kubeconfig {named}"):
            context, namespace = _context(files, place.context)
            config.load_kube_config(
                config_file=os.pathsep.join(str(file) for file in files),
                context=context,
                client_configuration=configuration,
            )
    # The command tells by itself that a server is silent, and does not make people wait for it.
    configuration.retries = False
    if urlsplit(configuration.host).hostname in {"localhost", "127.0.0.1", "::1"}:
        configuration.proxy = None  # no proxy of the environment leads to this machine
    return configuration, place.namespace or namespace or "default"


def _context(files: list[Path], wanted: str) -> tuple[str, str]:
    """Find the context that is meant, and its namespace; of several files, the first that says something counts."""
    known: dict[str, str] = {}
    current = ""
    for file in files:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        current = current or document.get("current-context") or ""
        for one in document.get("contexts") or []:
            known.setdefault(str(one["name"]), str((one.get("context") or {}).get("namespace") or ""))
    chosen = wanted or current
    if not chosen:
        raise ClusterError(f"the kubeconfig has no current context: name one by --context ({_list(known)})", BAD_INPUT)
    if chosen not in known:
        raise ClusterError(f"there is no context {chosen!r} in the kubeconfig: there are {_list(known)}", BAD_INPUT)
    return chosen, known[chosen]


def _list(known: dict[str, str]) -> str:
    return ", ".join(known) or "none"


class _Collected(logging.Handler):
    """Keeps what the client only logs: that a credential plugin failed."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what is wrong with a configuration into a sentence."""
    from kubernetes.config import ConfigException  # noqa: PLC0415 - slow to import

    collected = _Collected()
    logging.getLogger().addHandler(collected)
    try:
        yield
    except (ConfigException, OSError, UnicodeDecodeError) as problem:
        raise ClusterError(f"{what} cannot be used ({_told(str(problem))}): {_REMEDY}", BAD_INPUT) from None
    except (yaml.YAMLError, TypeError, ValueError, KeyError, AttributeError):
        raise ClusterError(f"{what} cannot be used (it is not in the form of one): {_REMEDY}", BAD_INPUT) from None
    finally:
        logging.getLogger().removeHandler(collected)
    if collected.said:
        raise ClusterError(
            f"{what} names a plugin for credentials, which failed: {_told(collected.said[0])}", BAD_INPUT
        )


def _told(problem: str) -> str:
    """Shorten what the client says: it may go on with a user's whole entry, tokens and all."""
    return line(problem.partition("{")[0])[:300]
