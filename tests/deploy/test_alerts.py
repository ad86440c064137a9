"""The alerts and dashboards name metrics that exist, and each alert fires at its fault."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.pages import ROOT, text_of, words_of

RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
RUNBOOK = text_of(ROOT / "docs" / "runbook.md")

_OF_PROMETHEUS = {"up"}
_NAME = re.compile(r"\b(?:rtb|segments|process|http_server)_[a-z0-9_]+\b")
_SUFFIX = re.compile(r"_(?:bucket|count|sum)$")

FAULT_OF: Final[dict[str, dict[str, str]]] = {
    "RtbNotEnriching": {'rtb_enriching{instance="a"}': "0x20"},
    "RtbNotReady": {'rtb_ready{instance="a"}': "0x20"},
    "RtbStoreRefuses": {'rtb_store_refused{code="NOPERM",command="HGET"}': "1x20"},
    "RtbLate": {
        'rtb_requests_total{outcome="out_of_time"}': "0+100x20",
        'rtb_requests_total{outcome="enriched"}': "0+1000x20",
    },
    "RtbFaults": {'rtb_faults_total{where="identify"}': "0x10 1x10"},
    "RtbDescriptorsNearlyUsed": {
        'process_open_fds{process="worker-0"}': "900x20",
        'process_max_fds{process="worker-0"}': "1024x20",
    },
    "OptOutsWait": {"segments_opt_outs_oldest_seconds": "0+60x20"},
    "OptOutFlood": {"segments_opt_out_flood": "1x20"},
    "ScrubOverdue": {"segments_scrub_seconds_left": "300-60x20"},
    "PublicationOld": {"segments_published_timestamp_seconds": "0x20"},
    "StoreNotWritable": {"segments_store_is_well": "0x20"},
    "StoreCameBackEmpty": {"segments_store_came_back_empty": "1x20"},
    "MembershipsMissing": {
        "segments_memberships_held": "400x30",
        "segments_memberships_expected": "1000x30",
    },
    "StoreMemoryNearlyUsed": {
        "segments_store_memory_bytes": "900x30",
        "segments_store_memory_limit_bytes": "1000x30",
    },
    "JobsWait": {"segments_jobs_oldest_seconds": "3600+60x20"},
    "JobHeld": {'segments_ledger_jobs{state="held"}': "1x20"},
    "JobsFail": {'segments_ledger_jobs{state="failed"}': "0+1x20"},
    "QuotaNearlyUsed": {'segments_quota_used_ratio{account="shop",quota="audiences"}': "0.95x30"},
    "ApiErrors": {
        'segments_api_requests_total{door="audience",status="5xx"}': "0+10x20",
        'segments_api_requests_total{door="audience",status="2xx"}': "0+10x20",
    },
    "ProcessGone": {'up{job="rtb-listener"}': "0x20"},
}

WELL: Final = {
    'rtb_enriching{instance="a"}': "1x30",
    'rtb_ready{instance="a"}': "1x30",
    'rtb_requests_total{outcome="out_of_time"}': "0+1x30",
    'rtb_requests_total{outcome="enriched"}': "0+1000x30",
    'rtb_faults_total{where="identify"}': "1x30",
    'process_open_fds{process="worker-0"}': "100x30",
    'process_max_fds{process="worker-0"}': "1024x30",
    "segments_opt_outs_oldest_seconds": "0 20 0 30x27",
    "segments_opt_out_flood": "0x30",
    "segments_scrub_seconds_left": "43200x30",
    "segments_published_timestamp_seconds": "0+60x30",
    "segments_store_is_well": "1x5 0 1x24",
    "segments_store_came_back_empty": "0x30",
    "segments_memberships_held": "990x30",
    "segments_memberships_expected": "1000x30",
    "segments_store_memory_bytes": "900x30",
    "segments_store_memory_limit_bytes": "0x30",
    "segments_jobs_oldest_seconds": "100x30",
    'segments_ledger_jobs{state="held"}': "0x30",
    'segments_ledger_jobs{state="failed"}': "70x30",
    'segments_quota_used_ratio{account="shop",quota="audiences"}': "0.5x30",
    'segments_api_requests_total{door="audience",status="5xx"}': "3x30",
    'segments_api_requests_total{door="audience",status="2xx"}': "0+10x30",
    'up{job="rtb-listener"}': "1x30",
}


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def case_of(series: dict[str, str], expression: str, value: float | None) -> dict[str, Any]:
    """Return a test of promtool: what an expression is in the end."""
    expected = [] if value is None else [{"labels": "{}", "value": value}]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": expression, "eval_time": "19m", "exp_samples": expected},
        ],
    }


def judge(tmp_path: Path, cases: list[dict[str, Any]]) -> None:
    file = tmp_path / "cases.yaml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": cases}))
    promtool("test", "rules", str(file))


def test_rules_are_rules() -> None:
    promtool("check", "rules", str(RULES))


def test_each_alert_fires_at_its_fault(tmp_path: Path) -> None:
    assert sorted(FAULT_OF) == sorted(ALERTS)
    judge(
        tmp_path,
        [
            case_of(series, f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})', 1)
            for alert, series in FAULT_OF.items()
        ],
    )


def test_no_alert_fires_while_all_is_well(tmp_path: Path) -> None:
    judge(tmp_path, [case_of(WELL, 'count(ALERTS{alertstate="firing"})', None)])


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_its_section_in_the_runbook(alert: str) -> None:
    assert f"## {alert}\n" in RUNBOOK
    assert f"docs/runbook.md#{alert.lower()}\n" in RULES.read_text()


def test_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    headings = re.findall(r"^## (\S+)$", RUNBOOK, re.MULTILINE)
    assert headings == ALERTS


@pytest.mark.parametrize("file", [RULES, *DASHBOARDS], ids=lambda path: path.name)
def test_each_metric_that_is_looked_at_exists(file: Path) -> None:
    known = {*words_of(ROOT / "docs" / "operations.md", "metric"), *_OF_PROMETHEUS}
    named = set(_NAME.findall(re.sub(r"rtb-segments-\w+", "", file.read_text())))

    assert {name for name in named if _SUFFIX.sub("", name) not in known} == set()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda path: path.name)
def test_each_query_of_a_dashboard_is_promql(file: Path, tmp_path: Path) -> None:
    dashboard = json.loads(file.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"query:{n}", "expr": expr} for n, expr in enumerate(queries)]
    written = tmp_path / "queries.yaml"
    written.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))

    promtool("check", "rules", str(written))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
