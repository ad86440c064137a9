"""The stages of an explanation, in words."""

from collections.abc import Callable, Sequence

from rtb.catalog import Recipient
from rtb.explain.identifiers import Read
from rtb.explain.signals import NOT_SAID, Leaf
from rtb.outcome import Reason
from rtb.pipeline import Question, silenced_owners
from segments.model.explained_bid import Finding, Stage, State
from segments.model.identity import Id
from segments.model.record import EVERYONE, OptOut, unpack


def identified(
    reads: Sequence[Read], ids: Sequence[Id], rule_in_words: Callable[[int], str]
) -> Stage:
    """Say which identifiers were read, the most trusted first, and which were not."""
    rank_of = {id_: rank for rank, id_ in enumerate(ids, 1)}
    used = [(rank_of[id_], read) for read in reads for id_ in read.ids]
    findings = [
        Finding(f"{rank} · {read.kind}", read.where, rule_in_words(read.rank or 0))
        for rank, read in sorted(used, key=lambda pair: pair[0])
    ]
    findings += [
        Finding("not read", read.where, read.why_not, counts=False)
        for read in reads
        if not read.ids
    ]
    if not ids:
        return Stage("Identify", State.STOPPED, "No id to look up", tuple(findings))
    says = f"{count(len(ids), 'id')} to look up, the most trusted first"
    return Stage("Identify", State.PASSED, says, tuple(findings))


def stopped(name: str, says: str, reason: Reason) -> Stage:
    """Say that a bid ends here."""
    return Stage(name, State.STOPPED, f"{says}: {reason}")


def stripped(stripped: Sequence[str]) -> Stage:
    """Say which paths were removed."""
    says = f"Taken out: {', '.join(stripped)}" if stripped else "Nothing to take out"
    return Stage("Strip", State.PASSED, says)


def consented(leaves: Sequence[Leaf], reason: Reason) -> Stage:
    """Say how the signals of a request decide."""
    every = [finding for leaf in leaves for finding in leaf.findings]
    unsaid = ", ".join(finding.what for finding in every if finding.says == NOT_SAID)
    findings = tuple(finding for finding in every if finding.says != NOT_SAID)
    if unsaid:
        findings += (Finding(unsaid, says=NOT_SAID, counts=False),)
    if reason:
        return Stage("Consent", State.STOPPED, f"Refused: {reason}", findings)
    return Stage("Consent", State.PASSED, "Nothing refuses", findings)


def looked_up(found: Sequence[bytes | None], memberships: int, opt_outs: int) -> Stage:
    """Say how many ids the store knows, with how many memberships and opt-outs."""
    known = [packed for packed in found if packed is not None]
    ended = sum(len(unpack(packed).memberships) for packed in known) - memberships
    says = (
        f"{len(known)} of {len(found)} known: {count(memberships, 'membership')},"
        f" {count(opt_outs, 'opt-out')}"
    )
    if ended:
        says += f"; {count(ended, 'membership')} ended before"
    return Stage("Lookup", State.PASSED, says)


def opted_out(
    question: Question, opt_outs: Sequence[OptOut], silenced: frozenset[int] | None
) -> Stage:
    """Say which owners the opt-outs suppress; `silenced` are those of all opt-outs together."""
    if not opt_outs:
        return Stage("Opt-outs", State.PASSED, "None")
    findings = tuple(
        Finding(
            opt_out.action.name,
            "everyone" if opt_out.account_id == EVERYONE else f"account {opt_out.account_id}",
            _reach_in_words(silenced_owners(question, [opt_out])),
            account_id=opt_out.account_id,
        )
        for opt_out in dict.fromkeys(opt_outs)
    )
    if silenced is None:
        return Stage("Opt-outs", State.STOPPED, "An opt-out suppresses everything", findings)
    says = f"{count(len(findings), 'opt-out')}: only the segments of "
    says += f"{count(len(silenced), 'owner')} are suppressed"
    return Stage("Opt-outs", State.NOTED, says, findings)


def _reach_in_words(owners: frozenset[int] | None) -> str:
    if owners is None:
        return "suppresses everything here"
    return f"suppresses the segments of {count(len(owners), 'owner')}"


def held_out(recipient: Recipient, *, is_held_out: bool) -> Stage:
    """Say whether the person is in the hold-out."""
    if not recipient.hold_out:
        return Stage("Hold-out", State.SKIPPED, "None for this recipient")
    share = f"{recipient.hold_out * 100:.3g} % of persons"
    if is_held_out:
        return Stage("Hold-out", State.STOPPED, f"{share}; this person is among them")
    return Stage("Hold-out", State.PASSED, f"{share}; this person is not among them")


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
