"""Checks and repairs the indices: template, aliases, settings that block writes, retention. Reports what is wrong."""

from __future__ import annotations

from typing import Protocol

from hitcounter.elastic import IndicesReport, RetentionReport
from hitcounter.errors import IndexUnavailable
from hitcounter.indices import TemplateCheck, TemplateState, template_name

from hitcounter_operator.findings import IndexLook
from hitcounter_operator.notes import Note, Problem, Reason
from hitcounter_operator.objects import list_names


class AllIndices(Protocol):
    """What the operator needs from the indices."""

    prefix: str

    async def ensure_template(self) -> TemplateCheck:
        """Create or update the template if needed; return what was there before."""

    async def repair(self) -> IndicesReport:
        """Check all indices, repair what can be repaired, and report other faults."""

    async def drop_expired(self, now_ms: int, *, retention_days: int | None = None) -> RetentionReport:
        """Delete expired indices."""


class IndexCare:
    """Manages the indices of one installation."""

    def __init__(self, indices: AllIndices) -> None:
        self._indices = indices
        self._doubt: str | None = None
        self._is_newer_told = False
        self._is_refusal_told = False

    async def look(self, *, now_ms: int, retention_days: int, clock_doubt: str | None) -> IndexLook:
        """Check and repair the indices, and delete expired ones unless there is a doubt about the clock."""
        notes: list[Note] = []
        try:
            template = await self._indices.ensure_template()
            notes += self._note_template(template)
            report = await self._indices.repair()
            notes += _note_repaired(report)
            kept = len(report.indices)
            if clock_doubt is None:
                retention = await self._indices.drop_expired(now_ms, retention_days=retention_days)
                kept -= len(retention.dropped)
                notes += _note_dropped(retention, retention_days)
                clock_doubt = _doubt_elasticsearch(retention)
        except IndexUnavailable as error:
            return IndexLook(None, Problem("ElasticsearchUnavailable", f"{error}."), notes=tuple(notes))
        notes += self._note_doubt(clock_doubt)
        return IndexLook(kept, _find_problem(report), _build_remark(template, clock_doubt), tuple(notes))

    def _note_template(self, look: TemplateCheck) -> list[Note]:
        name = template_name(self._indices.prefix)
        if look.state is TemplateState.MISSING:
            return [Note(Reason.TEMPLATE_CREATED, f"Created the index template {name}.")]
        if look.state is TemplateState.OLDER:
            return [Note(Reason.TEMPLATE_UPGRADED, f"Upgraded the index template {name} to this version.")]
        was_refused, self._is_refusal_told = self._is_refusal_told, look.state is TemplateState.REFUSED
        if look.state is TemplateState.REFUSED:
            text = f"The index template cannot be written; hits are counted without it: {look.refusal}."
            return [] if was_refused else [Note(Reason.TEMPLATE_REFUSED, text, is_warning=True)]
        if look.state is TemplateState.CHANGED:
            text = f"The index template {name} had been changed, and was restored: {list_names(look.differences)}."
            return [Note(Reason.TEMPLATE_REPAIRED, text, is_warning=True)]
        was_told, self._is_newer_told = self._is_newer_told, look.state is TemplateState.NEWER
        if look.state is TemplateState.NEWER and not was_told:
            return [Note(Reason.TEMPLATE_NEWER, f"The index template {name} has a newer version, and is not changed.")]
        return []

    def _note_doubt(self, doubt: str | None) -> list[Note]:
        """Report once that retention waits, although the difference of the clocks changes."""
        was_doubted, self._doubt = self._doubt is not None, doubt
        if doubt is None or was_doubted:
            return []
        return [Note(Reason.CLOCK_DOUBTED, f"No index is deleted for now: {doubt}.", is_warning=True)]


def _note_repaired(report: IndicesReport) -> list[Note]:
    return [
        Note(Reason.INDEX_REPAIRED, f"Repaired the index {index}: {list_names(done)}.", is_warning=True)
        for index, done in report.repaired.items()
    ]


def _note_dropped(report: RetentionReport, retention_days: int) -> list[Note]:
    if not report.dropped:
        return []
    text = f"Deleted {list_names(report.dropped)}: {retention_days} days are kept, today included."
    return [Note(Reason.INDICES_DROPPED, text)]


def _doubt_elasticsearch(retention: RetentionReport) -> str | None:
    if not retention.unexpired:
        return None
    return f"by the clock of Elasticsearch {list_names(retention.unexpired)} has not expired"


def _find_problem(report: IndicesReport) -> Problem | None:
    if not report.faults:
        return None
    faults = "; ".join(f"{index}: {fault}" for index, fault in sorted(report.faults.items()))
    return Problem("IndexUnfit", f"Hits cannot be written to {faults}.")


def _build_remark(template: TemplateCheck, doubt: str | None) -> str:
    remarks = []
    if template.state is TemplateState.NEWER:
        remarks.append("The index template has a newer version.")
    if template.state is TemplateState.REFUSED:
        remarks.append(f"The index template cannot be written; hits are counted without it: {template.refusal}.")
    if doubt is not None:
        remarks.append("Retention waits, because a clock may be wrong.")
    return " ".join(remarks)
