"""Explained bids, over a catalog with recipients, windows and opt-outs."""

from dataclasses import replace
from typing import Final

from rtb.catalog import Catalog
from rtb.explain.explainer import Deadline, Explainer
from rtb.pipeline import PipelineOptions
from segments.model.catalog import AccountEntry, AudienceEntry, RecipientEntry
from segments.model.explained_bid import AnswerForm, Explanation, Finding, Stage
from tests.rtb.requests import BANK, BANK_AUDIENCE, NOW_S, OPTIONS, SHOP, SHOP_AUDIENCES, snapshot

PUBLISHER: Final = AccountEntry(3, "publisher", "7001", "Paper", is_active=True, related_ids=(2,))
SOON: Final = AudienceEntry(6, 1, 1, "106", is_active=True, live_from_s=NOW_S + 60)
OVER: Final = AudienceEntry(7, 1, 1, "107", is_active=True, live_until_s=NOW_S)

CATALOG: Final = Catalog.from_snapshot(
    snapshot(
        audiences=(*SHOP_AUDIENCES, BANK_AUDIENCE, SOON, OVER),
        accounts=(SHOP, BANK, PUBLISHER),
        recipients=(
            RecipientEntry(1, "dsp-a", is_active=True, partner_ids=(1,)),
            RecipientEntry(2, "dsp-b", is_active=True, partner_ids=(1, 2), hold_out=0.5),
            RecipientEntry(3, "dsp-c", is_active=True, partner_ids=(1, 2), hold_out=1.0),
        ),
    )
)
DEADLINE: Final = Deadline(share=0.1, cap_ms=12.0)


def explained(
    body: bytes,
    *found: bytes | None,
    recipient: str | None = None,
    form: AnswerForm = AnswerForm.WHOLE,
    options: PipelineOptions = OPTIONS,
    now_s: float = NOW_S,
) -> Explanation:
    """Explain a bid; the store has `found` of its first ids, and nothing of the others."""
    known = CATALOG.recipient(recipient)
    assert known is not None
    explainer = Explainer(options, DEADLINE)
    half = explainer.ask(body, known, CATALOG)
    records = [*found, *[None] * len(half.ids)][: len(half.ids)]
    return explainer.answer(half, records, now_s, form)


def stage(explanation: Explanation, name: str) -> Stage:
    """Return a stage by its name."""
    return next(each for each in explanation.stages if each.name == name)


def findings(explanation: Explanation, name: str) -> list[tuple[str, str, str]]:
    """Return a stage's findings, as the rows of its table."""
    return [row_of(finding) for finding in stage(explanation, name).findings]


def row_of(finding: Finding) -> tuple[str, str, str]:
    """Return a finding as a row."""
    return finding.what, finding.where, finding.says


LIMITED: Final = replace(OPTIONS, max_segments=2, max_ids=2)
