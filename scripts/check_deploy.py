#!/usr/bin/env python3
"""Checks what deploy/ renders to. Run it as scripts/check_deploy, which prepares its environment.

Each kustomization is rendered with kubectl; every object must fit Kubernetes' strict schema (no
unknown field), pods must meet the restricted pod security profile, references between objects must
hold, and alerts, dashboards and environment variables must name metrics and flags that the sources
define.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA_VERSION = "1.30.0"  # gRPC probes and all other fields in use are stable there
RENDERED = ["base", "overlays/gpu", "overlays/monitored"]
# Metrics of others that alerts and dashboards may use.
FOREIGN_METRICS = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
METRIC = re.compile(r"\b(?:svdllm|grpc_server|kubelet_volume)_[a-z_]+\b|\bup(?=\{)")


def render(folder):
    result = subprocess.run([os.environ["KUBECTL"], "kustomize", str(folder)], capture_output=True,
                            text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{folder}: does not render: {result.stderr.strip()}")
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def of_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def matches(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def check_schema(objects):
    for item in objects:
        if item["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # a custom resource: check_monitoring
        try:
            kubernetes_validate.validate(item, SCHEMA_VERSION, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError,
                kubernetes_validate.InvalidSchemaError) as error:
            where = "/".join(str(part) for part in getattr(error, "path", []))
            yield f"{item['kind']} {item['metadata']['name']}: {where}: {getattr(error, 'message', error)}"


def check_pod_security(stateful_set):
    """The restricted profile, and what this project adds: a read-only root and no API token."""
    spec = stateful_set["spec"]["template"]["spec"]
    pod = spec.get("securityContext", {})
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod mounts a service account token"
    if pod.get("runAsNonRoot") is not True or pod.get("runAsUser", 0) == 0:
        yield "the pod may run as root"
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod has no seccomp profile"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"the pod uses {name}"
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected"}:
            yield f"volume {volume['name']} is of kind {kinds}"
    for container in spec.get("initContainers", []) + spec["containers"]:
        name = container["name"]
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"container {name} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"container {name} can write its root file system"
        if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
            yield f"container {name} keeps capabilities"
        resources = container.get("resources", {})
        for name_of_resource in ("cpu", "memory"):
            for bound in ("requests", "limits"):
                if name_of_resource not in resources.get(bound, {}):
                    yield f"container {name} has no {bound} of {name_of_resource}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container in spec["containers"] and probe not in container:
                yield f"container {name} has no {probe}"
        if ":" not in container["image"]:
            yield f"container {name}: image {container['image']} has no tag"


def check_references(objects):
    sets = of_kind(objects, "StatefulSet")
    if len(sets) != 1:
        yield f"{len(sets)} StatefulSets"
        return
    stateful_set = sets[0]
    spec = stateful_set["spec"]
    if spec["replicas"] != 1:
        yield "SQLite mode has one replica"
    labels = spec["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"]
             for container in spec["template"]["spec"]["containers"] for port in container["ports"]}
    services = {service["metadata"]["name"]: service for service in of_kind(objects, "Service")}
    if services.get(spec["serviceName"], {}).get("spec", {}).get("clusterIP") != "None":
        yield f"{spec['serviceName']} is not a headless service"
    for name, service in services.items():
        if not matches(service["spec"].get("selector"), labels):
            yield f"Service {name} does not select the pod"
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service {name}: the pod has no port {port['targetPort']}"
    accounts = {account["metadata"]["name"] for account in of_kind(objects, "ServiceAccount")}
    if spec["template"]["spec"]["serviceAccountName"] not in accounts:
        yield "the service account is missing"
    policies = of_kind(objects, "NetworkPolicy")
    if not any(matches(policy["spec"]["podSelector"].get("matchLabels"), labels) for policy in policies):
        yield "no network policy selects the pod"
    for policy in policies:
        if not policy["spec"]["podSelector"].get("matchLabels"):
            yield f"NetworkPolicy {policy['metadata']['name']} selects every pod of the namespace"
        for rule in policy["spec"].get("ingress", []):
            if not rule.get("from"):
                yield f"NetworkPolicy {policy['metadata']['name']} admits everybody"
            for peer in rule.get("from", []):
                if peer.get("podSelector", {}).get("matchLabels", {}).items() & labels.items():
                    yield "the network policy asks callers to carry the server's own labels"
    for container in spec["template"]["spec"]["containers"]:
        volumes = {volume["name"] for volume in spec["template"]["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"no volume {mount['name']}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("grpc", {}).get("port")
            if port is not None and port not in ports.values():
                yield f"{probe}: the pod has no port {port}"
    yield from check_pod_security(stateful_set)


def check_monitoring(objects):
    """The shape of the Prometheus operator's objects, as far as this project uses it."""
    services = of_kind(objects, "Service")
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        unknown = set(spec) - {"selector", "endpoints", "namespaceSelector", "jobLabel"}
        if unknown:
            yield f"ServiceMonitor: unknown fields {sorted(unknown)}"
        chosen = [service for service in services
                  if matches(spec["selector"]["matchLabels"], service["metadata"].get("labels", {}))]
        if len(chosen) != 1:
            yield f"ServiceMonitor selects {len(chosen)} services, not one"
        for endpoint in spec["endpoints"]:
            unknown = set(endpoint) - {"port", "path", "interval", "scrapeTimeout", "scheme"}
            if unknown:
                yield f"ServiceMonitor endpoint: unknown fields {sorted(unknown)}"
            names = {port["name"] for service in chosen for port in service["spec"]["ports"]}
            if endpoint["port"] not in names:
                yield f"ServiceMonitor: no service port {endpoint['port']}"
    for rule_object in of_kind(objects, "PrometheusRule"):
        for group in rule_object["spec"]["groups"]:
            for rule in group["rules"]:
                name = rule.get("alert", rule.get("record", "?"))
                unknown = set(rule) - {"alert", "record", "expr", "for", "labels", "annotations"}
                if unknown:
                    yield f"alert {name}: unknown fields {sorted(unknown)}"
                if not isinstance(rule.get("expr"), str):
                    yield f"alert {name}: no expression"
                    continue
                if "alert" in rule and not rule.get("annotations", {}).get("summary"):
                    yield f"alert {name}: no summary"
                if "alert" in rule and not rule.get("labels", {}).get("severity"):
                    yield f"alert {name}: no severity"
                if not re.fullmatch(r"(\d+[smhd])?", rule.get("for", "")):
                    yield f"alert {name}: for: {rule['for']}"
                yield from check_expression(f"alert {name}", rule["expr"])
    for config in of_kind(objects, "ConfigMap"):
        for key, text in config.get("data", {}).items():
            if key.endswith(".json"):
                for panel in json.loads(text)["panels"]:
                    for target in panel["targets"]:
                        yield from check_expression(f"panel {panel['title']}", target["expr"])


def known_metrics():
    """Every metric that src/metrics names, with the series that histograms have."""
    names = set(FOREIGN_METRICS)
    for path in (ROOT / "src" / "metrics").glob("*.h"):
        found = re.findall(r'"((?:svdllm|grpc_server)_[a-z_]+)"', path.read_text())
        names.update(found)
        names.update(name + suffix for name in found if name.endswith("_seconds")
                     for suffix in ("_bucket", "_sum", "_count"))
    return names


def check_expression(where, expression):
    if any(expression.count(opening) != expression.count(closing)
           for opening, closing in ("()", "[]", "{}")):
        yield f"{where}: unbalanced brackets: {expression}"
    used = set(METRIC.findall(expression))
    if not used:
        yield f"{where}: no metric in {expression}"
    for name in sorted(used - known_metrics()):
        yield f"{where}: no metric {name} in src/metrics"


def check_flags(objects):
    """Every SVDLLM_X in a pod is a flag of the server."""
    flags = set()
    for path in (ROOT / "server").glob("*.cc"):
        flags.update(re.findall(r"ABSL_FLAG\(\s*[^,]+(?:<[^>]*>)?,\s*(\w+)\s*,", path.read_text()))
    for stateful_set in of_kind(objects, "StatefulSet"):
        for container in stateful_set["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                name = variable["name"]
                if name.startswith("SVDLLM_") and name.removeprefix("SVDLLM_").lower() not in flags:
                    yield f"{name}: the server has no such flag"


def check_gpus(objects):
    """As many CUDA devices are named as GPUs are asked for, and the image has their backend."""
    for stateful_set in of_kind(objects, "StatefulSet"):
        for container in stateful_set["spec"]["template"]["spec"]["containers"]:
            name = container["name"]
            gpus = [container["resources"].get(bound, {}).get("nvidia.com/gpu", "0")
                    for bound in ("requests", "limits")]
            variables = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
            devices = [device for device in variables.get("SVDLLM_DEVICES", "").split(",")
                       if device.startswith("cuda:")]
            if gpus[0] != gpus[1]:
                yield f"container {name}: GPUs are requested and limited alike, or not at all"
            if sorted(devices) != [f"cuda:{number}" for number in range(int(gpus[1]))]:
                yield f"container {name}: {gpus[1]} GPUs, and SVDLLM_DEVICES names {devices}"
            if devices and not container["image"].endswith("-cuda"):
                yield f"container {name}: image {container['image']} has no CUDA backend"


def check_image(dockerfile, ignored, cmake):
    """The image's builder gets what the build reads: the texts of Dockerfile, .dockerignore and CMakeLists.txt."""
    copied = [source for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.M)
              for source in line.split()[:-1]]
    allowed = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    for source in copied:
        if source not in allowed:
            yield f"docker/Dockerfile copies {source}, which .dockerignore leaves out"
    folders = re.findall(r"add_subdirectory\((\w+)\)", cmake)
    for listed in re.findall(r"foreach\(folder ([^)]*)\)", cmake):
        folders += listed.split()
    for folder in folders:
        if folder != "tests" and folder not in copied:
            yield f"CMakeLists.txt adds {folder}, which docker/Dockerfile does not copy"


def image_texts():
    return [(ROOT / name).read_text() for name in ("docker/Dockerfile", ".dockerignore", "CMakeLists.txt")]


def check(folder):
    try:
        objects = render(folder)
    except RuntimeError as error:
        return [str(error)]
    try:
        return [problem for checker in (check_schema, check_references, check_monitoring, check_flags, check_gpus)
                for problem in checker(objects)]
    except (KeyError, TypeError, AttributeError) as error:
        # A manifest so far from its shape that a check stumbles over it.
        return [*check_schema(objects), f"misshapen: {error!r}"]


# Faults that must be found: file, what stands there, what is put there instead, a word of the complaint.
# Looked for in the file's own overlay, or in overlays/monitored where it is in none.
FAULTS = [
    ("base/statefulset.yaml", "replicas: 1", "replicas: one", "replicas"),
    ("base/statefulset.yaml", "imagePullPolicy:", "imagePullPolice:", "imagePullPolice"),
    ("base/statefulset.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "root"),
    ("base/statefulset.yaml", "drop: [ALL]", "drop: [NET_RAW]", "capabilities"),
    ("base/statefulset.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root file"),
    ("base/statefulset.yaml", "name: SVDLLM_LISTEN", "name: SVDLLM_LISTN", "no such flag"),
    ("base/statefulset.yaml", "port: 7070\n              service: readiness",
     "port: 7071\n              service: readiness", "no port 7071"),
    ("base/service.yaml", "targetPort: metrics", "targetPort: metric", "no port metric"),
    ("base/networkpolicy.yaml", "  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: svdllm\n",
     "  podSelector: {}\n", "every pod"),
    ("base/kustomization.yaml", "- service.yaml", "- services.yaml", "does not render"),
    ("components/monitoring/servicemonitor.yaml", "port: metrics", "port: metric", "no service port"),
    ("components/monitoring/alerts.yaml", "svdllm_fenced_writes_total", "svdllm_fenced_total", "no metric"),
    ("components/monitoring/dashboard.json", "sum(svdllm_queue_depth", "sum(svdllm_queue_length",
     "no metric"),
    ("components/monitoring/dashboard.json", "svdllm_device_memory_used_bytes", "svdllm_device_memory_bytes",
     "no metric"),
    ("overlays/gpu/statefulset.yaml", "value: cuda:0", "value: auto", "names []"),
    ("overlays/gpu/statefulset.yaml", 'memory: 32Gi\n              nvidia.com/gpu: "1"\n            limits',
     "memory: 32Gi\n            limits", "GPUs are requested"),
    ("overlays/gpu/kustomization.yaml", "-cuda\n", "\n", "no CUDA backend"),
]


def self_test():
    failures = 0
    for name, text, fault, expected in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            tree = pathlib.Path(folder) / "deploy"
            shutil.copytree(ROOT / "deploy", tree)
            content = (tree / name).read_text()
            if text not in content:
                print(f"check_deploy self-test: {name} has no {text!r}", file=sys.stderr)
                failures += 1
                continue
            (tree / name).write_text(content.replace(text, fault, 1))
            overlay = "gpu" if name.startswith("overlays/gpu/") else "monitored"
            problems = check(tree / "overlays" / overlay)
            if not any(expected in problem for problem in problems):
                print(f"check_deploy self-test: {name} with {fault!r}: expected '{expected}', "
                      f"got {problems}", file=sys.stderr)
                failures += 1
    for place, text, expected in [(1, "!rpc\n", "leaves out"), (0, "COPY rpc rpc\n", "does not copy")]:
        texts = image_texts()
        texts[place] = texts[place].replace(text, "", 1)
        if not any(expected in problem for problem in check_image(*texts)):
            print(f"check_deploy self-test: the image without {text!r}: '{expected}' is not said", file=sys.stderr)
            failures += 1
    if not failures:
        print(f"check_deploy self-test: {len(FAULTS) + 2} faults found")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems = list(check_image(*image_texts()))
    for problem in problems:
        print(problem, file=sys.stderr)
    failures = len(problems)
    for name in RENDERED:
        problems = check(ROOT / "deploy" / name)
        failures += len(problems)
        for problem in problems:
            print(f"deploy/{name}: {problem}", file=sys.stderr)
        if not problems:
            print(f"check_deploy: deploy/{name} is sound")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
