#!/usr/bin/env python3
"""Checks what deploy/ renders to. Run it as scripts/check_deploy, which prepares its environment.

Each kustomization is rendered with kubectl; every object must fit Kubernetes' strict schema (no
unknown field) of several versions, pods must meet the restricted pod security profile, references
between objects must hold, two instances must not touch each other, and alerts, dashboards and
environment variables must name metrics and flags that the sources define. Prometheus' own promtool
reads the alerts and queries, and runs alerts_test.yaml.
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

import promtool

ROOT = pathlib.Path(__file__).resolve().parent.parent
# From the first that deploy/README.md names to the latest known.
SCHEMA_VERSIONS = ["1.27.0", "1.32.0", "1.37.0"]
RENDERED = ["base", "overlays/gpu", "overlays/monitored", "overlays/replicated", "overlays/second"]
# The one container that is asked for signs of life, and the image of this project.
SERVER, IMAGE = "server", "svdllm"
# Metrics of others that alerts and dashboards may use.
FOREIGN_METRICS = {"up", "ALERTS"}
METRIC = re.compile(r"\b(?:svdllm|grpc_server|process)_[a-z_]+\b(?!=)|\b(?:up|ALERTS)(?=\{)")


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
        for version in SCHEMA_VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError,
                    kubernetes_validate.InvalidSchemaError) as error:
                where = "/".join(str(part) for part in getattr(error, "path", []))
                yield (f"{item['kind']} {item['metadata']['name']}, Kubernetes {version}: {where}: "
                       f"{getattr(error, 'message', error)}")


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
            if name == SERVER and probe not in container:
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
             for container in spec["template"]["spec"]["containers"] for port in container.get("ports", [])}
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
        if container["name"] != "server":
            continue  # a sidecar answers nobody
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asks = container.get(probe, {}).get("httpGet", {})
            if asks.get("port") not in ports:
                yield f"{probe}: the pod has no port {asks.get('port')}"
            if asks.get("scheme") != "HTTPS":
                yield f"{probe}: the server speaks TLS, the probe does not"
    yield from check_pod_security(stateful_set)
    yield from check_disruption(stateful_set)


def check_disruption(stateful_set):
    """A job that is moved starts over: nobody moves it without need, and it is given back in time."""
    template = stateful_set["spec"]["template"]
    annotations = template["metadata"].get("annotations", {})
    for name, value in [("karpenter.sh/do-not-disrupt", "true"),
                        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false")]:
        if annotations.get(name) != value:
            yield f"the pod's annotation {name} is not {value}"
    variables = {variable["name"]: variable.get("value", "")
                 for container in template["spec"]["containers"] for variable in container.get("env", [])}
    # Beside the worker's grace: the drain (3 s), the last calls, and what the kubelet takes.
    if float(variables.get("SVDLLM_GRACE_SECONDS", 20)) != template["spec"]["terminationGracePeriodSeconds"] - 15:
        yield "SVDLLM_GRACE_SECONDS is not the pod's terminationGracePeriodSeconds less 15"


def check_apart(first, second):
    """Two instances in one namespace: other names, and no selector of one matches the other's pod."""
    def names(objects):
        return {(item["kind"], item["metadata"]["name"]) for item in objects}

    for kind, name in sorted(names(first) & names(second)):
        yield f"two instances: both have {kind} {name}"
    for name in sorted(secrets_of(first) & secrets_of(second)):
        yield f"two instances: both mount the Secret {name}"
    for one, other in [(first, second), (second, first)]:
        labels = of_kind(other, "StatefulSet")[0]["spec"]["template"]["metadata"]["labels"]
        selectors = [(f"Service {item['metadata']['name']}", item["spec"]["selector"])
                     for item in of_kind(one, "Service")]
        selectors += [(f"NetworkPolicy {item['metadata']['name']}", item["spec"]["podSelector"]["matchLabels"])
                      for item in of_kind(one, "NetworkPolicy")]
        selectors += [(f"StatefulSet {item['metadata']['name']}", item["spec"]["selector"]["matchLabels"])
                      for item in of_kind(one, "StatefulSet")]
        for name, selector in selectors:
            if matches(selector, labels):
                yield f"two instances: {name} selects the other's pod"


def check_identity(objects):
    """Nobody is let in unseen, and what says who may be is mounted, not written down."""
    for stateful_set in of_kind(objects, "StatefulSet"):
        spec = stateful_set["spec"]["template"]["spec"]
        secrets = {volume["name"] for volume in spec["volumes"] if "secret" in volume}
        for container in spec["containers"]:
            if container["name"] != "server":
                continue  # a sidecar listens to nobody
            variables = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]
                      if mount["name"] in secrets and mount.get("readOnly") and "subPath" not in mount}
            if "SVDLLM_INSECURE_ALLOW_REMOTE" in variables:
                yield f"container {container['name']} lets everybody in"
            for name in ("SVDLLM_TLS_CERT", "SVDLLM_TLS_KEY", "SVDLLM_TOKENS"):
                if variables.get(name, "").rpartition("/")[0] not in mounts:
                    yield f"{name} is not in a Secret that is mounted to be read"


def secrets_of(objects):
    return {volume["secret"]["secretName"] for stateful_set in of_kind(objects, "StatefulSet")
            for volume in stateful_set["spec"]["template"]["spec"]["volumes"] if "secret" in volume}


def check_monitoring(objects):
    """The shape of the Prometheus operator's objects, as far as this project uses it."""
    services = of_kind(objects, "Service")
    for item in of_kind(objects, "ServiceMonitor") + of_kind(objects, "PrometheusRule"):
        if not item["metadata"].get("labels", {}).get("release"):
            yield f"{item['kind']}: no label release, so that kube-prometheus-stack does not see it"
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        if spec.get("jobLabel") != "app.kubernetes.io/name":
            yield 'ServiceMonitor: without jobLabel the job is not "svdllm", which the alerts go by'
        unknown = set(spec) - {"selector", "endpoints", "namespaceSelector", "jobLabel"}
        if unknown:
            yield f"ServiceMonitor: unknown fields {sorted(unknown)}"
        chosen = [service for service in services
                  if matches(spec["selector"]["matchLabels"], service["metadata"].get("labels", {}))]
        if len(chosen) != 1:
            yield f"ServiceMonitor selects {len(chosen)} services, not one"
        for endpoint in spec["endpoints"]:
            unknown = set(endpoint) - {"port", "path", "interval", "scrapeTimeout", "scheme", "tlsConfig",
                                       "authorization"}
            if unknown:
                yield f"ServiceMonitor endpoint: unknown fields {sorted(unknown)}"
            names = {port["name"] for service in chosen for port in service["spec"]["ports"]}
            if endpoint["port"] not in names:
                yield f"ServiceMonitor: no service port {endpoint['port']}"
    for rule_object in of_kind(objects, "PrometheusRule"):
        yield from promtool.check_rules(rule_object["spec"]["groups"])
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
                dashboard = json.loads(text)
                yield from promtool.check_queries(dashboard)
                for where, query in promtool.queries(dashboard):
                    yield from check_expression(where, query)
                for variable in dashboard["templating"]["list"]:
                    if variable["type"] == "query":
                        yield from check_expression(f"variable {variable['name']}", variable["query"]["query"])


def known_metrics():
    """Every metric that src/metrics names, with the series that histograms have."""
    names = set(FOREIGN_METRICS)
    for path in (ROOT / "src" / "metrics").glob("*.h"):
        found = re.findall(r'"((?:svdllm|grpc_server|process)_[a-z_]+)"', path.read_text())
        names.update(found)
        names.update(name + suffix for name in found if name.endswith("_seconds")
                     for suffix in ("_bucket", "_sum", "_count"))
    return names


def check_expression(where, expression):
    if re.search(r'\bservice=~?"[^$]', expression):
        yield f"{where}: names a service, which a name prefix changes: {expression}"
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
    """The image's builder gets what the build reads, and the image says its version: the texts of Dockerfile,
    .dockerignore and CMakeLists.txt."""
    version = re.search(r"project\(svdllm VERSION ([\d.]+)", cmake).group(1)
    named = set(re.findall(r"^ARG VERSION=(.*)$|svdllm:([\d.]+)", dockerfile, re.M))
    for other in sorted({name for pair in named for name in pair if name} - {version}):
        yield f"docker/Dockerfile says {other}, and CMakeLists.txt version {version}"
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


def check_version(objects):
    """Pods run the image of this version, but for programs of others."""
    version = re.search(r"project\(svdllm VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    for stateful_set in of_kind(objects, "StatefulSet"):
        spec = stateful_set["spec"]["template"]["spec"]
        for container in spec.get("initContainers", []) + spec["containers"]:
            image, _, tag = container["image"].rpartition(":")
            if image == IMAGE and tag.removesuffix("-cuda") != version:
                yield f"container {container['name']}: image {container['image']} is not of version {version}"


def image_texts():
    return [(ROOT / name).read_text() for name in ("docker/Dockerfile", ".dockerignore", "CMakeLists.txt")]


def check(folder):
    try:
        objects = render(folder)
    except RuntimeError as error:
        return [str(error)]
    try:
        return [problem for checker in (check_schema, check_references, check_identity, check_monitoring, check_flags,
                                               check_gpus,
                                               check_version)
                for problem in checker(objects)]
    except (KeyError, TypeError, AttributeError) as error:
        # A manifest so far from its shape that a check stumbles over it.
        return [*check_schema(objects), f"misshapen: {error!r}"]


def check_alerts(deploy):
    monitoring = deploy / "components" / "monitoring"
    return list(promtool.test_alerts(monitoring / "alerts.yaml", monitoring / "alerts_test.yaml"))


def check_instances(deploy):
    return list(check_apart(render(deploy / "base"), render(deploy / "overlays" / "second")))


# Faults that must be found: file, what stands there, what is put there instead, a word of the complaint,
# and what looks for it. None: the checks of the file's own overlay, or of overlays/monitored where it is
# in none.
FAULTS = [
    ("base/statefulset.yaml", "replicas: 1", "replicas: one", "replicas"),
    ("base/statefulset.yaml", "imagePullPolicy:", "imagePullPolice:", "imagePullPolice"),
    ("base/statefulset.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "root"),
    ("base/statefulset.yaml", "drop: [ALL]", "drop: [NET_RAW]", "capabilities"),
    ("base/statefulset.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "root file"),
    ("base/statefulset.yaml", "name: SVDLLM_LISTEN", "name: SVDLLM_LISTN", "no such flag"),
    ("base/statefulset.yaml", "path: /readyz\n              port: metrics",
     "path: /readyz\n              port: metric", "no port metric"),
    ("base/statefulset.yaml", "scheme: HTTPS", "scheme: HTTP", "the probe does not"),
    ("base/statefulset.yaml", "value: /tokens/tokens", "value: /data/tokens", "SVDLLM_TOKENS is not in a Secret"),
    ("base/statefulset.yaml", "name: SVDLLM_TLS_KEY\n              value: /tls/tls.key",
     'name: SVDLLM_INSECURE_ALLOW_REMOTE\n              value: "true"', "lets everybody in"),
    ("overlays/second/kustomization.yaml", "secretName: team-a-svdllm-tokens", "secretName: svdllm-tokens",
     "both mount the Secret svdllm-tokens", check_instances),
    ("base/service.yaml", "targetPort: metrics", "targetPort: metric", "no port metric"),
    ("base/networkpolicy.yaml",
     "  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: svdllm\n"
     "      app.kubernetes.io/instance: svdllm\n",
     "  podSelector: {}\n", "every pod"),
    ("base/statefulset.yaml", 'karpenter.sh/do-not-disrupt: "true"', 'karpenter.sh/do-not: "true"', "do-not-disrupt"),
    ("base/statefulset.yaml", 'value: "75"', 'value: "20"', "less 15"),
    ("base/kustomization.yaml", "newTag: ", "newTag: 9.", "is not of version"),
    ("base/service.yaml", "    app.kubernetes.io/instance: svdllm\n", "", "selects the other's pod", check_instances),
    ("base/networkpolicy.yaml", "      app.kubernetes.io/instance: svdllm\n", "", "selects the other's pod",
     check_instances),
    ("overlays/second/kustomization.yaml", "namePrefix: team-a-\n", "", "both have Service svdllm", check_instances),
    ("overlays/second/kustomization.yaml", "includeTemplates: true", "includeTemplates: false",
     "does not select the pod"),
    ("base/kustomization.yaml", "- service.yaml", "- services.yaml", "does not render"),
    ("components/monitoring/servicemonitor.yaml", "port: metrics", "port: metric", "no service port"),
    ("components/monitoring/servicemonitor.yaml", "  jobLabel: app.kubernetes.io/name\n", "", "without jobLabel"),
    ("components/monitoring/servicemonitor.yaml", "    release: kube-prometheus-stack\n", "", "no label release"),
    ("components/monitoring/alerts.yaml", "svdllm_fenced_writes_total", "svdllm_fenced_total", "no metric"),
    ("components/monitoring/alerts.yaml", 'up{job="svdllm"}', 'up{service="svdllm"}', "names a service"),
    ("components/monitoring/alerts.yaml", "> 6 * 3600", "> 6 * * 3600", "parse error"),
    ("components/monitoring/alerts.yaml", "{{ $labels.reason }}", "{{ $labels.reason }", "promtool check rules"),
    ("components/monitoring/alerts.yaml", "absent_over_time(", "present_over_time(", "promtool test rules", check_alerts),
    ("components/monitoring/alerts.yaml", "device) (increase(svdllm_worker_restarts_total[15m])) > 5",
     "device) (increase(svdllm_worker_restarts_total[15m])) > 500", "SvdllmWorkerCrashLoop", check_alerts),
    ("components/monitoring/alerts_test.yaml", "SvdllmDown, eval_time: 26h", "SvdllmDown, eval_time: 20h",
     "promtool test rules", check_alerts),
    ("components/monitoring/alerts_test.yaml", "      - {alertname: SvdllmFencedWrites, eval_time: 50m}\n", "",
     "silent in no test", check_alerts),
    ("components/monitoring/dashboard.json", "histogram_quantile(0.5,", "histogram_quantile(0.5", "parse error"),
    ("components/monitoring/dashboard.json", "label_values(svdllm_queue_depth", "label_values(svdllm_queue",
     "no metric svdllm_queue "),
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
    for name, text, fault, expected, *finder in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            tree = pathlib.Path(folder) / "deploy"
            shutil.copytree(ROOT / "deploy", tree)
            content = (tree / name).read_text()
            if text not in content:
                print(f"check_deploy self-test: {name} has no {text!r}", file=sys.stderr)
                failures += 1
                continue
            (tree / name).write_text(content.replace(text, fault, 1))
            overlay = name.split("/")[1] if name.startswith("overlays/") else "monitored"
            problems = finder[0](tree) if finder else check(tree / "overlays" / overlay)
            if not any(expected in problem for problem in problems):
                print(f"check_deploy self-test: {name} with {fault!r}: expected '{expected}', "
                      f"got {problems}", file=sys.stderr)
                failures += 1
    image_faults = [(1, "!rpc\n", "", "leaves out"), (0, "COPY rpc rpc\n", "", "does not copy"),
                    (0, "ARG VERSION=", "ARG VERSION=9.", "says 9.")]
    for place, text, fault, expected in image_faults:
        texts = image_texts()
        texts[place] = texts[place].replace(text, fault, 1)
        if not any(expected in problem for problem in check_image(*texts)):
            print(f"check_deploy self-test: the image, {text!r} as {fault!r}: '{expected}' is not said", file=sys.stderr)
            failures += 1
    if not failures:
        print(f"check_deploy self-test: {len(FAULTS) + len(image_faults)} faults found")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    problems = [*check_image(*image_texts()), *check_alerts(ROOT / "deploy"), *check_instances(ROOT / "deploy")]
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
