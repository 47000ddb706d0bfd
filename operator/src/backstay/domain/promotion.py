"""Carrying a version on to the next environment, once it has served here in good health for long enough.

A pull request is asked for once for each version; people merge it. Whoever closes it has said no to that version.
"""

from dataclasses import replace

from backstay.domain.actions import ProposePromotion, WithdrawPromotion
from backstay.domain.observed import (
    PromotionAsked,
    PromotionClosed,
    PromotionDone,
    PromotionPending,
    PromotionRefused,
)
from backstay.domain.resource import Promotion
from backstay.domain.status import Phase, PromotionRecord, PromotionState, Served
from backstay.domain.turn import Turn

_LOOK_EVERY = 30.0
_REFUSED_AGAIN_AFTER = 60.0


def advance(turn: Turn) -> None:
    """Take the promotion of the stable version one step further, or take back one that has no reason any more."""
    wish, stable = turn.desired.promotion, turn.status.stable
    record = _still_meant(turn, wish, stable)
    if wish is None or stable is None or turn.status.phase is not Phase.STABLE or turn.status.stalled:
        return
    due = stable.since + wish.after
    if turn.now < due:
        turn.wake_in(due - turn.now)
        return
    if record is not None and record.state in (PromotionState.DONE, PromotionState.CLOSED):
        return
    plan = turn.plan_for(stable)
    if plan is None:
        return
    record = record or PromotionRecord(version=stable.version, digest=stable.digest, to=wish.to, due_at=due)
    turn.act(ProposePromotion(record, plan.model))
    turn.note(promotion=_told(turn, record))


def _still_meant(turn: Turn, wish: Promotion | None, stable: Served | None) -> PromotionRecord | None:
    """Return the record of the stable version's promotion; one of another version or place is withdrawn."""
    record = turn.status.promotion
    if record is None:
        return None
    meant = (record.version, record.digest, record.to)
    if stable is not None and wish is not None and meant == (stable.version, stable.digest, wish.to):
        return record
    if record.state is PromotionState.OPEN:
        instead = f"version {stable.version} is stable now" if stable is not None else "no version is stable now"
        why = f"promotions to {record.to} are no longer asked for" if wish is None or wish.to != record.to else instead
        turn.act(WithdrawPromotion(record, why))
    turn.note(promotion=None)
    return None


def _told(turn: Turn, record: PromotionRecord) -> PromotionRecord:
    """Note what became of the pull request, and tell people what is new."""
    match turn.observed.promotion:
        case PromotionPending(waiting):
            turn.wake_in(5.0)
            return replace(record, note=waiting or record.note)
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
