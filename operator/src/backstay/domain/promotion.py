"""Carrying a version on to the next environment, once it has served here in good health for long enough.

A pull request is asked for once for each version; people merge it. A person who closes it says no to that version.
"""

from dataclasses import replace

from backstay.domain.actions import ProposePromotion, WithdrawPromotion
from backstay.domain.observed import (
    PromotionAsked,
    PromotionClosed,
    PromotionDone,
    PromotionPending,
    PromotionRefused,
    PromotionWithdrawn,
)
from backstay.domain.rules import Promotion
from backstay.domain.status import Phase, PromotionRecord, PromotionState, Served
from backstay.domain.turn import Turn
from backstay.domain.units import timestamp

_ENDED = (PromotionState.DONE, PromotionState.CLOSED)
_LOOK_EVERY = 30.0
_LOOK_AGAIN = 5.0
_REFUSED_AGAIN_AFTER = 60.0


def advance(turn: Turn) -> None:
    """Take the promotion of the stable version one step further, or take back one that has no reason any more."""
    wish, stable = turn.desired.promotion, turn.status.stable
    if not _settled(turn, wish, stable):
        return
    record = turn.status.promotion
    if wish is None or stable is None or turn.status.phase is not Phase.STABLE or turn.status.stalled:
        return
    due = stable.since + wish.after
    if turn.now < due:
        turn.wake_in(due - turn.now)
        return
    if record is not None and record.state in _ENDED:
        return
    plan = turn.plan_for(stable)
    if plan is None:
        return
    record = record or PromotionRecord(version=stable.version, digest=stable.digest, to=wish.to, due_at=due)
    turn.act(ProposePromotion(record, plan.model, _gathered(turn, stable)))
    turn.note(promotion=_told(turn, record))


def _settled(turn: Turn, wish: Promotion | None, stable: Served | None) -> bool:
    """Take back what is on record of another version or place, and tell whether nothing of that is left."""
    record = turn.status.promotion
    if record is None:
        return True
    meant = (record.version, record.digest, record.to)
    if stable is not None and wish is not None and meant == (stable.version, stable.digest, wish.to):
        return True
    answer = turn.observed.promotion
    if record.state in _ENDED or isinstance(answer, PromotionWithdrawn):
        if isinstance(answer, PromotionWithdrawn) and answer.left_open and record.pull_request:
            turn.announce("PromotionLeftOpen", f"{record.pull_request} stays open: {answer.left_open}", warning=True)
        turn.note(promotion=None)
        return True
    instead = f"version {stable.version} is stable now" if stable is not None else "no version is stable now"
    why = f"promotions to {record.to} are no longer asked for" if wish is None or wish.to != record.to else instead
    turn.act(WithdrawPromotion(record, why))
    if isinstance(answer, PromotionPending) and answer.waiting:
        turn.note(promotion=replace(record, note=answer.waiting))
    turn.wake_in(_LOOK_AGAIN)
    return False


def _gathered(turn: Turn, stable: Served) -> tuple[str, ...]:
    """Say how the stable version did here."""
    sentences = [f"Version {stable.version} has been stable there since {timestamp(stable.since)}"]
    ended = next((one for one in reversed(turn.status.history) if one.version == stable.version), None)
    if ended is not None and ended.reason:
        sentences.append(f"Its rollout ended {ended.outcome}: {ended.reason}")
    return tuple(sentences)


def _told(turn: Turn, record: PromotionRecord) -> PromotionRecord:
    """Note what became of the pull request, and tell people what is new."""
    match turn.observed.promotion:
        case PromotionPending(waiting):
            turn.wake_in(_LOOK_AGAIN)
            return replace(record, note=waiting or record.note)
        case PromotionWithdrawn():
            # That was when it had no reason; now it has one again.
            turn.wake_in(_LOOK_AGAIN)
            return record
        case PromotionAsked(url):
            turn.wake_in(_LOOK_EVERY)
            if record.state is not PromotionState.OPEN or record.pull_request != url:
                turn.announce("PromotionProposed", f"{url} brings version {record.version} to {record.to}")
            return replace(record, state=PromotionState.OPEN, pull_request=url, note="")
        case PromotionDone(note):
            turn.announce("PromotionDone", f"{record.to} declares version {record.version}")
            return replace(record, state=PromotionState.DONE, note=note)
        case PromotionClosed(url):
            turn.announce("PromotionClosed", f"{url} was closed: version {record.version} is not proposed again")
            return replace(record, state=PromotionState.CLOSED, pull_request=url, note="")
        case PromotionRefused(reason):
            turn.wake_in(_REFUSED_AGAIN_AFTER)
            if reason != record.note:
                turn.announce("PromotionRefused", reason, warning=True)
            return replace(record, state=PromotionState.REFUSED, note=reason)
