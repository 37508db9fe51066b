"""The command from its arguments to its exit status, against a sink that does right or wrong as told."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from hitcounter_benchmark.__main__ import main

if TYPE_CHECKING:
    from tests.unit.benchmark.conftest import Misbehaviour, Sink

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKERS", "ID"):
        monkeypatch.delenv(f"HITCOUNTER_BENCHMARK__{name}", raising=False)


def run(sink: Sink, *arguments: str, settle_seconds: float = 5) -> int:
    return main(["--url", sink.url, "--settle-seconds", str(settle_seconds), "--probe-every-ms", "0", *arguments])


def test_a_right_count_is_success_and_said_in_a_sentence(sink: Sink, capsys: Capture) -> None:
    assert run(sink, "--requests", "200") == 0
    assert "counted 200 = acknowledged 200" in capsys.readouterr().out
    assert sink.counts == {"1": 200}


def test_the_load_is_one_connection_unless_more_are_asked_for(sink: Sink) -> None:
    run(sink, "--requests", "20", "--no-verify")
    with_one = sink.connections
    run(sink, "--requests", "200", "--no-verify", "-w", "8")
    beside_the_load = 1
    assert with_one == 1 + beside_the_load
    assert sink.connections - with_one == 8 + beside_the_load


def test_environment_gives_workers_and_id_and_flags_win(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITCOUNTER_BENCHMARK__ID", "from environment")
    monkeypatch.setenv("HITCOUNTER_BENCHMARK__WORKERS", "3")
    assert run(sink, "--requests", "30") == 0
    assert run(sink, "--requests", "30", "-i", "from flag/ü") == 0
    assert sink.counts == {"from environment": 30, "from flag/ü": 30}


def test_an_id_that_had_hits_before_is_counted_right(sink: Sink) -> None:
    sink.counts["1"] = 1234
    assert run(sink, "--requests", "50") == 0


def test_many_ids_are_verified_one_by_one(sink: Sink, capsys: Capture) -> None:
    assert run(sink, "--requests", "2000", "-w", "8", "--ids", "100", "--skew", "zipf") == 0
    assert "counted 2,000 = acknowledged 2,000" in capsys.readouterr().out


def test_batches_count_with_all_of_their_hits(sink: Sink, capsys: Capture) -> None:
    assert run(sink, "--requests", "20", "--batch", "50", "--ids", "10") == 0
    assert "counted 1,000 = acknowledged 1,000" in capsys.readouterr().out


def test_open_loop_keeps_to_its_rate(sink: Sink, capsys: Capture) -> None:
    assert run(sink, "--rate", "500", "--seconds", "1", "-w", "4") == 0
    assert "counted 500 = acknowledged 500" in capsys.readouterr().out


def test_a_lost_hit_is_exit_status_1(sink: Sink, misbehaviour: Misbehaviour, capsys: Capture) -> None:
    misbehaviour.loses_every = 100
    assert run(sink, "--requests", "200") == 1
    assert "WRONG: counted 198, acknowledged 200" in capsys.readouterr().out


def test_a_hit_counted_twice_is_exit_status_1(sink: Sink, misbehaviour: Misbehaviour, capsys: Capture) -> None:
    misbehaviour.doubles_every = 200
    assert run(sink, "--requests", "200") == 1
    assert "WRONG: counted 201, acknowledged 200" in capsys.readouterr().out


def test_refused_and_unknown_hits_are_told_apart(sink: Sink, misbehaviour: Misbehaviour, capsys: Capture) -> None:
    misbehaviour.refuses_every = 50
    misbehaviour.takes_and_says_unknown_every = 40
    assert run(sink, "--requests", "100") == 0
    shown = capsys.readouterr().out
    assert "counted 98 = acknowledged 96 + 2 of 2 unknown" in shown
    assert "503 refused: 2, 503 unknown: 2" in shown


def test_a_cut_connection_leaves_its_hit_in_doubt_and_is_replaced(
    sink: Sink, misbehaviour: Misbehaviour, capsys: Capture
) -> None:
    misbehaviour.takes_and_cuts_every = 25
    assert run(sink, "--requests", "100", "-w", "2") == 0
    shown = capsys.readouterr().out
    assert "counted 100 = acknowledged 96 + 4 of 4 unknown" in shown
    assert "connection cut: 4" in shown


def test_an_answer_that_never_comes_leaves_its_hit_in_doubt(
    sink: Sink, misbehaviour: Misbehaviour, capsys: Capture
) -> None:
    misbehaviour.takes_and_hangs_every = 50
    assert run(sink, "--requests", "100", "--timeout-seconds", "0.1") == 0
    shown = capsys.readouterr().out
    assert "counted 100 = acknowledged 98 + 2 of 2 unknown" in shown
    assert "time-out: 2" in shown


def test_waiting_for_a_slow_server_counts_as_latency_in_the_open_loop(
    sink: Sink, misbehaviour: Misbehaviour, tmp_path: Path
) -> None:
    misbehaviour.takes_and_hangs_every = 10
    file = tmp_path / "result.json"
    arguments = ["--rate", "100", "--seconds", "0.5", "-w", "1", "--timeout-seconds", "0.2", "--json", str(file)]
    assert run(sink, *arguments) == 0
    latency_ms = orjson.loads(file.read_bytes())["results"]["latency_ms"]
    assert latency_ms["p50"] > 100, "hits that were due while the connection hung must be charged for the wait"


def test_nothing_but_refusals_is_exit_status_1(sink: Sink, misbehaviour: Misbehaviour, capsys: Capture) -> None:
    misbehaviour.is_bad_request = True
    assert run(sink, "--requests", "10") == 1
    shown = capsys.readouterr().out
    assert "422: 10" in shown
    assert "NOT VERIFIED: no hit was acknowledged" in shown


def test_counts_that_lag_a_little_are_waited_for(sink: Sink, misbehaviour: Misbehaviour) -> None:
    misbehaviour.as_of_lag_seconds = 0.3
    assert run(sink, "--requests", "10") == 0


@pytest.mark.parametrize("as_of", [None, "2020-01-01T00:00:00Z"])
def test_counts_that_never_settle_are_exit_status_1(
    sink: Sink, misbehaviour: Misbehaviour, as_of: str | None, capsys: Capture
) -> None:
    misbehaviour.as_of = as_of
    assert run(sink, "--requests", "10", settle_seconds=0.1) == 1
    assert "use --no-verify" in capsys.readouterr().err
    assert sink.posts == 0


def test_nothing_there_is_exit_status_1_at_once(sink: Sink, capsys: Capture) -> None:
    assert main(["--url", "http://127.0.0.1:1"]) == 1
    assert "nothing answers at http://127.0.0.1:1: connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "http://example.org"],
        ["--workers", "0"],
        ["--rate", "-1"],
        ["--rate", "nan"],
        ["--profile", "spike"],
        ["--rate", "10", "--profile", "no such file"],
        ["--rate", "10", "--max-backlog", "100"],
        ["--batch", "10001"],
        ["--no-such-flag"],
    ],
)
def test_wrong_arguments_are_exit_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_wrong_environment_is_exit_status_2(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("HITCOUNTER_BENCHMARK__WORKERS", "many")
    assert main([]) == 2
    assert "HITCOUNTER_BENCHMARK__WORKERS: " in capsys.readouterr().err


def test_the_record_holds_machine_versions_settings_and_results(sink: Sink, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    assert run(sink, "--requests", "100", "--json", str(file)) == 0
    record = orjson.loads(file.read_bytes())
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["uvloop"]
    assert record["settings"]["requests"] == 100
    assert record["results"]["acknowledged_hits"] == record["results"]["counted"] == 100
    assert record["results"]["latency_ms"]["total"] == 100


def test_freshness_is_measured_by_hits_of_its_own(sink: Sink, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    arguments = ["--url", sink.url, "--seconds", "0.5", "--rate", "50", "--probe-every-ms", "50"]
    assert main([*arguments, "--json", str(file)]) == 0
    results = orjson.loads(file.read_bytes())["results"]
    probes = {name: count for name, count in sink.counts.items() if name.startswith("freshness-")}
    assert results["freshness_ms"]["total"] == len(probes) >= 5
    assert set(probes.values()) == {1}
    assert results["freshness_missing"] == 0


def test_a_probe_that_is_never_countable_is_exit_status_1(
    sink: Sink, misbehaviour: Misbehaviour, capsys: Capture
) -> None:
    misbehaviour.loses_probes = True
    arguments = ["--url", sink.url, "--seconds", "0.2", "--probe-every-ms", "60000", "--settle-seconds", "0.2"]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert "1 never countable" in shown
    assert "= acknowledged" in shown


def test_nothing_is_sent_while_the_backlog_is_above_its_limit(sink: Sink, misbehaviour: Misbehaviour) -> None:
    misbehaviour.backlog = 51
    run(sink, "--seconds", "0.5", "--max-backlog", "50", settle_seconds=0.1)
    before_the_first_look = sink.posts
    misbehaviour.backlog = 50
    run(sink, "--seconds", "0.5", "--max-backlog", "50", settle_seconds=0.1)
    assert sink.posts - before_the_first_look > 10 * before_the_first_look


def test_reads_beside_the_load_go_at_their_rate(sink: Sink, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    arguments = ["--seconds", "1", "--read-rate", "40", "--read-id", "somebody else", "--json", str(file)]
    assert run(sink, *arguments) == 0
    record = orjson.loads(file.read_bytes())
    assert record["settings"]["read_id"] == "somebody else"
    assert 35 <= record["results"]["reads_ms"]["total"] <= 42


def test_first_interrupt_ends_the_load_and_the_counts_are_still_verified(sink: Sink) -> None:
    command = [sys.executable, "-m", "hitcounter_benchmark", "--url", sink.url, "--seconds", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert sink.was_posted_to.wait(30)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "= acknowledged" in shown
