"""What the foundation offers to the services is a decision: a name that comes or goes is seen here."""

from __future__ import annotations

import ast

import pytest

from tests.consistency.house import ROOT

FOUNDATION = ROOT / "packages/hitcounter/src/hitcounter"

PUBLIC = {
    "__init__": "",
    "addresses": ("Address find_option_fault find_tls_fault read_address read_host read_host_and_port"),
    "backoff": "backoff_seconds",
    "codec": (
        "HitBatch ID_RULE PRODUCER_BYTES READER_VERSION SEQUENCE_MAX TIME_MAX_MS VERSION_MAX build_batch decode encode "
        "read_traceparent"
    ),
    "elastic": "Indices IndicesReport RetentionReport open_client translated",
    "entries": "DeadLetter Durability Entry PendingEntry Settlement StoredDeadLetter",
    "errors": (
        "ConfigurationError DurabilityUnavailable EntryTooNew HitcounterError IndexUnavailable InvalidHit Outcome "
        "PermanentError StreamUnavailable TransientError UndecodableEntry"
    ),
    "freshness": "FRESH_SECONDS FreshnessMeter FreshnessReport",
    "health": (
        "Answer EmbeddedServer ManagementSettings Readiness build_management_app format_address open_socket "
        "serve_management"
    ),
    "hits": (
        "ACCEPT_AHEAD_MS ACCEPT_BACK_MS BATCH_MAX_HITS DAY_MS DOT_SEGMENTS FIELDS HOUR_MS Hit ID_MAX_BYTES "
        "KEY_MAX_BYTES MINUTE_MS WEIGHT_MAX check_id has_utf8_form is_longer_than parse_timestamp read_hit "
        "uuid7_time_ms"
    ),
    "indices": (
        "CLOCK_TOLERANCE_MS DURABLE_SETTINGS MAPPING MAPPING_VERSION OWNER TemplateLook TemplateState build_index "
        "build_settings build_template compare_template day_of document_id document_id_prefix doubt_clock earliest_ms "
        "elasticsearch_day_name expired_indices find_mapping_fault find_missing_aliases find_missing_fields "
        "find_newer_meta find_obstacle index_of indices_of_windows indices_to_prepare is_durable keyed_document_id "
        "template_name version_of write_alias"
    ),
    "ledger": "Audit Ledger StreamMemory StreamStatus",
    "logs": "RepeatFilter bind_traceparent configure_logging get_logger",
    "metrics": "ADVICE QueueMetrics create_registry explain",
    "reasons": (
        "PART_MAX_CHARACTERS SUPPORTED SUPPORTED_MAJOR_VERSIONS describe_answer describe_error find_cause "
        "find_unsupported shorten"
    ),
    "redis_lane": "AcceptLane build_pool check_memory_policy is_demoted is_forbidden translate translated",
    "settings": (
        "ENV_PREFIX EXIT_CONFIGURATION ElasticsearchSettings Host IndexSettings LogSettings Port RedisSettings Section "
        "SettingsBase TracingSettings exit_for load_settings load_settings_or_exit variable_name"
    ),
    "stream": "GROUP RECLAIM_MAX_EXAMINED HitStream Keys open_stream",
    "tracing": (
        "LINKS_MAX build_provider extract_context extract_span_context get_tracer join open_tracer write_traceparent"
    ),
}


def public_names(module: str) -> set[str]:
    """Return the names that a module defines itself, at its top level, without an underscore."""
    names: set[str] = set()
    for node in ast.parse((FOUNDATION / f"{module}.py").read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names - {"log"} if not name.startswith("_")}


def test_foundation_has_exactly_these_modules() -> None:
    assert {path.stem for path in FOUNDATION.glob("*.py")} == set(PUBLIC)


@pytest.mark.parametrize("module", PUBLIC)
def test_module_offers_exactly_these_names(module: str) -> None:
    assert public_names(module) == set(PUBLIC[module].split())
