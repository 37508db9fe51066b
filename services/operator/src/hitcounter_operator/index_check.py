"""Checks and repairs the indices: template, aliases, settings. Reports what only a person can change."""

from __future__ import annotations

from hitcounter.elastic import Indices, IndicesReport
from hitcounter.errors import IndexUnavailable
from hitcounter.indices import TemplateCheck, TemplateState, template_name
from hitcounter.logs import get_logger

from hitcounter_operator.state import IndexState, Notice, Problem, Reason, list_names

log = get_logger()


class IndexCheck:
    """Checks the indices of one installation."""

    def __init__(self, indices: Indices) -> None:
        self._indices = indices
        self._reported: TemplateState | None = None
        """NEWER or REFUSED while it lasts: it is reported once."""

    async def run(self) -> IndexState:
        """Check and repair the indices."""
        notices: list[Notice] = []
        try:
            template = await self._indices.ensure_template()
            notices += self._report_template(template)
            report = await self._indices.repair()
        except IndexUnavailable as error:
            return IndexState(None, Problem("ElasticsearchUnavailable", f"{error}."), notices=tuple(notices))
        except Exception:  # whatever it is, queue and scaling must go on, and the status must not stay as it was
            log.exception("the check of the indices failed")
            problem = Problem("IndicesUnknown", "The check of the indices failed; the log has the reason.")
            return IndexState(None, problem, notices=tuple(notices))
        notices += [
            Notice(Reason.INDEX_REPAIRED, f"Repaired the index {index}: {list_names(done)}.", is_warning=True)
            for index, done in report.repaired.items()
        ]
        return IndexState(len(report.indices), _find_problem(report), _build_remark(template), tuple(notices))

    def _report_template(self, look: TemplateCheck) -> list[Notice]:
        reported = self._reported
        self._reported = look.state if look.state in (TemplateState.NEWER, TemplateState.REFUSED) else None
        template = f"The index template {template_name(self._indices.prefix)}"
        match look.state:
            case TemplateState.MISSING:
                return [Notice(Reason.TEMPLATE_CREATED, f"{template} was missing, and was created.")]
            case TemplateState.OLDER:
                return [Notice(Reason.TEMPLATE_UPGRADED, f"{template} was upgraded to this version.")]
            case TemplateState.CHANGED:
                text = f"{template} had been changed, and was restored: {list_names(look.differences)}."
                return [Notice(Reason.TEMPLATE_REPAIRED, text, is_warning=True)]
            case TemplateState.NEWER if reported is not TemplateState.NEWER:
                return [Notice(Reason.TEMPLATE_NEWER, f"{template} has a newer version, and is not changed.")]
            case TemplateState.REFUSED if reported is not TemplateState.REFUSED:
                return [Notice(Reason.TEMPLATE_REFUSED, _build_remark(look), is_warning=True)]
        return []


def _find_problem(report: IndicesReport) -> Problem | None:
    if not report.faults:
        return None
    faults = "; ".join(f"{index}: {fault}" for index, fault in sorted(report.faults.items()))
    return Problem("IndexUnfit", f"Hits cannot be written to {faults}.")


def _build_remark(template: TemplateCheck) -> str:
    if template.state is TemplateState.NEWER:
        return "The index template has a newer version."
    if template.state is TemplateState.REFUSED:
        return f"The index template cannot be written; hits are counted without it: {template.refusal}."
    return ""
