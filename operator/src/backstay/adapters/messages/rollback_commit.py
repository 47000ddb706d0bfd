"""What a rollback asks of Git, and how its commit is worded."""

import re
from dataclasses import dataclass

from backstay.adapters.messages.plain import one_line, paragraph, person, title, trailers
from backstay.domain.resource import ModelIdentity

ID_TRAILER = "Backstay-Rollback-Id"
SUPERSEDED_TRAILER = "Backstay-Superseded-By"

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LONGEST_SUBJECT = 120
_MOST_EVIDENCE = 20


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """One rollback to be written.

    Args:
        rollback_id: names this rollback; at most one commit with it exists.
        resource: ``namespace/name`` of the ModelDeployment.
        path: the folder in the repository that declares it.
        name: the ModelDeployment's name in the version file.
        environment: what people call the folder, such as ``production``.
        good: the version to restore.
        bad: the version that failed; the commit is made only while the file says this one.
        bad_commit: the commit that set the bad version; the search for an earlier commit of ours starts there.
        reason: a short sentence without a full stop, such as ``error ratio 4.1 % against 1.0 %``.
        evidence: a line for each failing signal, such as ``signal=errors verdict=Fail value=0.041 limit=0.01``.
        co_author: ``Name <mail>`` of the person who promoted the bad version, or empty.
        quarantine: whether the bad version joins ``rejectedVersions`` (not after a deadline without a verdict).

    Raises:
        ValueError: the id cannot stand in a trailer, or good and bad are the same version.
    """

    rollback_id: str
    resource: str
    path: str
    name: str
    environment: str
    good: ModelIdentity
    bad: ModelIdentity
    bad_commit: str
    reason: str
    evidence: tuple[str, ...] = ()
    co_author: str = ""
    quarantine: bool = True

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.rollback_id):
            raise ValueError(f"The rollback of {self.resource} has the id {self.rollback_id!r}; use letters and digits")
        if (self.good.version, self.good.digest) == (self.bad.version, self.bad.digest):
            raise ValueError(f"The rollback of {self.resource} would restore version {self.bad.version}, which failed")


def rollback_subject(request: RollbackRequest) -> str:
    """Word the subject of the commit that restores the good version; it is the pull request's title too."""
    versions = f"{_label(request.bad, request.good)} -> {_label(request.good, request.bad)}"
    return _subject("rollback", request, versions)


def rollback_text(request: RollbackRequest) -> str:
    """Say in one line what failed and what the commit does; text from outside is in it as it came."""
    good = _label(request.good, request.bad)
    text = f"{_what_failed(request)} This restores version {good}, the last one that proved itself there."
    return f"{text} {_what_rejected(request)}" if request.quarantine else text


def rollback_trailers(request: RollbackRequest) -> str:
    """Write the trailers of the commit that restores the good version."""
    good, bad = _label(request.good, request.bad), _label(request.bad, request.good)
    return _trailers(request, [("Backstay-From", bad), ("Backstay-To", good)])


def rollback_message(request: RollbackRequest) -> str:
    """Word the commit that restores the good version."""
    return _message(rollback_subject(request), rollback_text(request), rollback_trailers(request))


def quarantine_message(request: RollbackRequest, newer_version: str) -> str:
    """Word the commit that only rejects the bad version, because the file has moved on to a newer one."""
    bad = request.bad.version
    body = (
        f"{_what_failed(request)} The file declares version {newer_version} by now, which stays. "
        f"{_what_rejected(request)}"
    )
    named = [("Backstay-From", bad), (SUPERSEDED_TRAILER, newer_version)]
    return _message(_subject("quarantine", request, f"rejects {title(bad)}"), body, _trailers(request, named))


def _subject(kind: str, request: RollbackRequest, what: str) -> str:
    """Word a subject; ``what`` is ours, and an ``@`` in it stands between a version and its digest."""
    name, environment = title(request.name), title(request.environment)
    return one_line(f"{kind}({name}): {environment} {what}, {title(request.reason)}", _LONGEST_SUBJECT)


def _what_failed(request: RollbackRequest) -> str:
    failed = f"Version {request.bad.version} of {request.name} failed in {request.environment}"
    return f"{failed} and gets no more requests: {request.reason}."


def _what_rejected(request: RollbackRequest) -> str:
    return (
        f"Version {request.bad.version} is now among the rejected versions, so that no automation applies it again; "
        "a commit that sets spec.model.retryOf to the rollback id below lifts that."
    )


def _label(identity: ModelIdentity, other: ModelIdentity) -> str:
    """Name a version, with the beginning of its digest where the number alone does not tell the two apart."""
    if identity.version != other.version:
        return title(identity.version)
    return f"{title(identity.version)}@{title(identity.digest.removeprefix('sha256:')[:12]) or 'no-digest'}"


def _trailers(request: RollbackRequest, versions: list[tuple[str, str]]) -> str:
    named = trailers(
        [
            (ID_TRAILER, request.rollback_id),
            ("Backstay-Resource", request.resource),
            *versions,
            ("Backstay-Bad-Commit", request.bad_commit),
            *(("Backstay-Evidence", line) for line in request.evidence[:_MOST_EVIDENCE]),
        ]
    )
    author = person(request.co_author)
    return f"{named}\nCo-authored-by: {author}" if author else named


def _message(subject: str, body: str, named: str) -> str:
    return "\n\n".join([subject, paragraph(body), named]) + "\n"
