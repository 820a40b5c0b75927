"""What Prometheus itself says of alerts and of a dashboard's queries: promtool, for check_deploy.py.

PROMTOOL names the program.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile

import yaml


def run(*arguments):
    """What promtool complains of, or None."""
    result = subprocess.run([os.environ["PROMTOOL"], *arguments], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    return " ".join((result.stdout + result.stderr).split())


def check_rules(groups):
    """Alerts and recording rules as a PrometheusRule has them: syntax, templates, names."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rules.yaml"
        path.write_text(yaml.safe_dump({"groups": groups}))
        complaint = run("check", "rules", str(path))
    if complaint:
        yield f"promtool check rules: {complaint}"


def queries(dashboard):
    """(where, PromQL) of every query of a Grafana dashboard."""
    for panel in dashboard["panels"]:
        for inner in [panel, *panel.get("panels", [])]:
            for target in inner.get("targets", []):
                yield f"panel {inner['title']}", target["expr"]
    for note in dashboard.get("annotations", {}).get("list", []):
        yield f"annotation {note['name']}", note["expr"]


def check_queries(dashboard):
    """Each query as a recording rule, with its variables filled in as Grafana does."""
    rules = []
    for number, (where, query) in enumerate(queries(dashboard)):
        name = re.sub(r"\W", "_", f"{where} {number}")
        rules.append({"record": name, "expr": re.sub(r"\$\w+", "x", query)})
    yield from check_rules([{"name": "dashboard", "rules": rules}])


def test_alerts(rules_file, test_file):
    """Runs the unit tests of alerts, and asks for a case of each alert that fires and one that does not."""
    groups = yaml.safe_load(rules_file.read_text())["spec"]["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    cases = [case for test in yaml.safe_load(test_file.read_text())["tests"] for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    for name in sorted(names - fired):
        yield f"{test_file.name}: {name} fires in no test"
    for name in sorted(names - silent):
        yield f"{test_file.name}: {name} is silent in no test"
    for name in sorted((fired | silent) - names):
        yield f"{test_file.name}: there is no alert {name}"
    # promtool compares annotations too, which are texts for people and would stand here twice.
    for group in groups:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / rules_file.name).write_text(json.dumps({"groups": groups}))
        copy = pathlib.Path(folder) / test_file.name
        copy.write_text(test_file.read_text())
        complaint = run("test", "rules", str(copy))
    if complaint:
        yield f"promtool test rules: {complaint}"
