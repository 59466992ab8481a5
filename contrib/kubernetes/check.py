#!/usr/bin/env python3
"""Checks the manifests: what a schema can't see, that they fit together and that the pod may do little.

    check.py [--rendered FILE]         problems on stdout, and exit code 1 if there are any
    check.py --podman SECRETS          what `podman run` must be told to run the pod as the manifests say,
                                       an argument a line; SECRETS is a directory with a directory for each secret
    check.py --self-test               whether each planted mistake is found

Without --rendered, `kubectl kustomize` renders ./example with made-up keys; where kubectl is missing or
too old for that, the files are put together here, which is said on stderr.
Needs Python 3.9 and PyYAML.
"""

import argparse
import base64
import copy
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

HERE = pathlib.Path(__file__).resolve().parent

KINDS = {
    ("v1", "ConfigMap"),
    ("v1", "Namespace"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
}
UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


# Rendering


def render():
    """The documents of ./example with made-up keys."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for part in ("base", "example"):
            shutil.copytree(HERE / part, root / part)
        keys = root / "example/keys"
        keys.mkdir(exist_ok=True)
        for name in ("identity.key", "swarm.key"):
            (keys / name).write_text(f"a made-up {name}\n")
        text = kustomize(root / "example")
        return list(yaml.safe_load_all(text)) if text else assemble(root / "example")


def kustomize(directory):
    """What kubectl makes of it; None where it can't."""
    if not shutil.which("kubectl"):
        print("note: kubectl is not here: kustomize was not run", file=sys.stderr)
        return None
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    # The kustomize in kubectl before 1.21 takes no directories as resources.
    if "must be a file" in done.stderr:
        print("note: this kubectl is older than 1.21: its kustomize can't render this", file=sys.stderr)
        return None
    sys.exit(f"kubectl kustomize: {done.stderr}")


def assemble(directory):
    """The same but for the hashes in the names of what is generated."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    documents = []
    for resource in kustomization.get("resources", []):
        path = directory / resource
        documents += assemble(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for item in kustomization.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in item["literals"])
        documents.append(generated("ConfigMap", item["name"], data))
    for item in kustomization.get("secretGenerator", []):
        files = [directory / file for file in item["files"]]
        data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in files}
        documents.append(generated("Secret", item["name"], data))
    for document in documents:
        if document["kind"] != "Namespace":
            document["metadata"]["namespace"] = kustomization["namespace"]
    return documents


def generated(kind, name, data):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data}


# Checking


def problems(documents):
    """Everything that is wrong, as sentences."""
    found = []
    for document in documents:
        kind = (document.get("apiVersion"), document.get("kind"))
        if kind not in KINDS:
            found.append(f"unknown kind {kind[0]} {kind[1]}")
    found += names(documents)
    deployments = of_kind(documents, "Deployment")
    if len(deployments) != 1:
        return found + [f"{len(deployments)} Deployments, not one"]
    deployment = deployments[0]["spec"]
    pod = deployment["template"]["spec"]
    found += selectors(documents, deployment)
    found += rollout(documents, deployment)
    found += ports(documents, pod)
    found += mounts(documents, pod)
    found += confinement(pod)
    for container in pod["containers"]:
        found += resources(container)
    return found


def of_kind(documents, kind):
    return [document for document in documents if document.get("kind") == kind]


def names(documents):
    namespaces = {document["metadata"]["name"] for document in of_kind(documents, "Namespace")}
    seen = set()
    for document in documents:
        key = (document.get("kind"), document["metadata"]["name"])
        if key in seen:
            yield f"two of {key[0]} {key[1]}"
        seen.add(key)
        if key[0] != "Namespace" and document["metadata"].get("namespace") not in namespaces:
            yield f"{key[0]} {key[1]} is in a namespace that is not made here"


def selectors(documents, deployment):
    labels = deployment["template"]["metadata"]["labels"]
    wanted = [("Deployment", deployment["selector"].get("matchLabels"))]
    wanted += [("Service", item["spec"].get("selector")) for item in of_kind(documents, "Service")]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        key = "podSelector" if kind == "NetworkPolicy" else "selector"
        items = of_kind(documents, kind)
        wanted += [(kind, item["spec"].get(key, {}).get("matchLabels")) for item in items]
        if not items:
            yield f"no {kind}"
    for kind, selector in wanted:
        if not selector or any(labels.get(key) != value for key, value in selector.items()):
            yield f"{kind} does not select the pod: {selector}"


def rollout(documents, deployment):
    if deployment.get("replicas") != 1:
        yield "not one replica: two would be one peer in two places"
    if deployment.get("strategy", {}).get("type") != "Recreate":
        yield "strategy is not Recreate"
    for budget in of_kind(documents, "PodDisruptionBudget"):
        if budget["spec"].get("maxUnavailable") != 1:
            yield "the disruption budget keeps nodes from being drained"


def ports(documents, pod):
    container = pod["containers"][0]
    by_name = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    known = set(by_name) | set(by_name.values())
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        get = container.get(probe, {}).get("httpGet", {})
        if get.get("path") != path or get.get("port") not in ("health", by_name.get("health")):
            yield f"{probe} does not ask the health port for {path}"
    for service in of_kind(documents, "Service"):
        if service["spec"].get("externalTrafficPolicy") != "Local":
            yield "externalTrafficPolicy is not Local: all devices would have a node's address"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if target not in known:
                yield f"Service: no container port {target}"
            if target in ("health", by_name.get("health")):
                yield "Service: the health port is open to the world"
    for policy in of_kind(documents, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            allowed = {port["port"] for port in rule.get("ports", [])}
            for port in allowed - known:
                yield f"NetworkPolicy: no container port {port}"
            if not allowed or allowed & {"health", by_name.get("health")}:
                yield "NetworkPolicy: the health port is open to the world"
    options = option_values(container)
    if options.get("--health", "").rpartition(":")[2] != str(by_name.get("health")):
        yield f"--health {options.get('--health')} is not the container port `health`"
    if options.get("--listen", "").rpartition("/")[2] != str(by_name.get("p2p")):
        yield f"--listen {options.get('--listen')} is not the container port `p2p`"


def option_values(container):
    return dict(arg.split("=", 1) for arg in container.get("args", []) if "=" in arg)


def mounts(documents, pod):
    data = {
        (item["kind"], item["metadata"]["name"]): set(item.get("data", {}))
        for kind in ("ConfigMap", "Secret")
        for item in of_kind(documents, kind)
    }
    container = pod["containers"][0]
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    mounted = {}
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"no volume {mount['name']}"
            continue
        secret = volumes[mount["name"]].get("secret", {})
        if ("Secret", secret.get("secretName")) not in data:
            yield f"no Secret {secret.get('secretName')}"
        if secret.get("defaultMode") != 0o440:
            yield "key files must have mode 0440"
        if not mount.get("readOnly"):
            yield f"{mount['mountPath']} is not read-only"
        for name in data.get(("Secret", secret.get("secretName")), ()):
            mounted[f"{mount['mountPath']}/{name}"] = True
    for option in ("--identity-key", "--swarm-key"):
        path = option_values(container).get(option)
        if path not in mounted:
            yield f"{option}: nothing is mounted at {path}"
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {}).get("configMapKeyRef")
        if source and source["key"] not in data.get(("ConfigMap", source["name"]), ()):
            yield f"no ConfigMap {source['name']} with {source['key']}"


def confinement(pod):
    security = pod.get("securityContext", {})
    for key, value in (("runAsNonRoot", True), ("runAsUser", 65532), ("fsGroup", 65532)):
        if security.get(key) != value:
            yield f"pod: {key} is not {value}"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "pod: no seccomp profile"
    for key in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(key) is not False:
            yield f"pod: {key} is not false"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"pod: {key}"
    for container in pod["containers"]:
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            yield "container: allowPrivilegeEscalation is not false"
        if security.get("readOnlyRootFilesystem") is not True:
            yield "container: the root is not read-only"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield "container: capabilities other than none"


def resources(container):
    asked = container.get("resources", {}).get("requests", {})
    limits = container.get("resources", {}).get("limits", {})
    if not {"cpu", "memory"} <= set(asked) or "memory" not in limits:
        yield "resources: cpu and memory must be asked for, and memory limited"
    for key, text in [*asked.items(), *limits.items()]:
        if quantity(text) is None:
            yield f"resources: {key}: {text} is no quantity"
    for key in set(asked) & set(limits):
        if (quantity(asked[key]) or 0) > (quantity(limits[key]) or 0):
            yield f"resources: more {key} asked for than allowed"


def quantity(text):
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", str(text))
    return float(parts[1]) * UNITS[parts[2]] if parts and parts[2] in UNITS else None


# Running


def podman_arguments(documents, secrets):
    """How podman runs the pod's container as the manifests say, from `--read-only` to the last argument."""
    pod = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    security = pod["securityContext"]
    arguments = [
        f"--user={security['runAsUser']}:{security['runAsGroup']}",
        f"--group-add={security['fsGroup']}",
        *(["--read-only", "--read-only-tmpfs=false"] if container["securityContext"]["readOnlyRootFilesystem"] else []),
        *(f"--cap-drop={name}" for name in container["securityContext"]["capabilities"]["drop"]),
        *([] if container["securityContext"]["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
        f"--memory={int(quantity(container['resources']['limits']['memory']))}",
    ]
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(documents, "ConfigMap")}
    for variable in container["env"]:
        source = variable["valueFrom"]["configMapKeyRef"]
        arguments.append(f"--env={variable['name']}={maps[source['name']][source['key']]}")
    for mount in container["volumeMounts"]:
        arguments.append(f"--volume={secrets}/{mount['name']}:{mount['mountPath']}:ro")
    return [*arguments, container["image"], *container["args"]]


# Testing this program


def planted(documents):
    """Mistakes, each with what must be said of it."""

    def kind(name):
        return lambda copied: of_kind(copied, name)[0]

    def pod(copied):
        return kind("Deployment")(copied)["spec"]["template"]["spec"]

    def container(copied):
        return pod(copied)["containers"][0]

    def put(where, *keys_and_value):
        *keys, last, value = keys_and_value

        def change(copied):
            item = where(copied)
            for key in keys:
                item = item[key]
            if value is None:
                del item[last]
            else:
                item[last] = value

        return change

    yield put(kind("PodDisruptionBudget"), "apiVersion", "policy/v1beta1"), "unknown kind policy/v1beta1"
    yield put(kind("Service"), "metadata", "namespace", "default"), "in a namespace that is not made here"
    yield put(kind("Service"), "spec", "selector", {"app": "other"}), "Service does not select the pod"
    yield put(kind("PodDisruptionBudget"), "spec", "selector", "matchLabels", {"a": "b"}), "Budget does not select"
    yield put(kind("NetworkPolicy"), "spec", "podSelector", {}), "NetworkPolicy does not select"
    yield put(kind("Deployment"), "spec", "replicas", 2), "one peer in two places"
    yield put(kind("Deployment"), "spec", "strategy", None), "not Recreate"
    yield put(kind("PodDisruptionBudget"), "spec", "maxUnavailable", 0), "from being drained"
    yield put(container, "livenessProbe", "httpGet", "port", "p2p"), "livenessProbe does not ask"
    yield put(container, "readinessProbe", None), "readinessProbe does not ask"
    yield put(kind("Service"), "spec", "externalTrafficPolicy", "Cluster"), "not Local"
    yield put(kind("Service"), "spec", "ports", 0, "targetPort", "http"), "no container port http"
    yield put(kind("Service"), "spec", "ports", 0, "targetPort", 8081), "open to the world"
    yield put(kind("NetworkPolicy"), "spec", "ingress", 0, "ports", 0, "port", 4002), "no container port 4002"
    yield put(kind("NetworkPolicy"), "spec", "ingress", 0, "ports", None), "open to the world"
    yield put(container, "ports", 1, "containerPort", 8082), "--health 0.0.0.0:8081 is not"
    yield put(container, "ports", 0, "containerPort", 4002), "--listen /ip4/0.0.0.0/tcp/4001 is not"
    yield put(container, "volumeMounts", 0, "name", "key"), "no volume key"
    yield put(container, "volumeMounts", 0, "mountPath", "/keys"), "nothing is mounted at /etc/rustory"
    yield put(container, "volumeMounts", 0, "readOnly", None), "is not read-only"
    yield put(pod, "volumes", 0, "secret", "secretName", "other"), "no Secret other"
    yield put(pod, "volumes", 0, "secret", "defaultMode", 0o400), "mode 0440"
    yield put(kind("Secret"), "data", "swarm.key", None), "--swarm-key: nothing is mounted"
    yield put(kind("ConfigMap"), "data", {}), "no ConfigMap"
    yield put(pod, "securityContext", "runAsNonRoot", None), "runAsNonRoot is not True"
    yield put(pod, "securityContext", "fsGroup", None), "fsGroup is not 65532"
    yield put(pod, "securityContext", "seccompProfile", None), "no seccomp"
    yield put(pod, "automountServiceAccountToken", None), "automountServiceAccountToken"
    yield put(pod, "hostNetwork", True), "hostNetwork"
    yield put(container, "securityContext", "allowPrivilegeEscalation", None), "allowPrivilegeEscalation"
    yield put(container, "securityContext", "readOnlyRootFilesystem", False), "the root is not read-only"
    yield put(container, "securityContext", "capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}), "capabilities"
    yield put(container, "resources", "requests", "cpu", "10mm"), "no quantity"
    yield put(container, "resources", "requests", "memory", "1Gi"), "more memory asked for than allowed"
    yield put(container, "resources", "limits", None), "memory limited"


def self_test(documents):
    missed = []
    for number, (change, told) in enumerate(planted(documents), 1):
        copied = copy.deepcopy(documents)
        change(copied)
        found = problems(copied)
        if not any(told in problem for problem in found):
            missed.append(f"mistake {number} was not found: expected `{told}`, got {found}")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rendered", metavar="FILE")
    parser.add_argument("--podman", metavar="SECRETS")
    parser.add_argument("--write", metavar="FILE", help="leave what was rendered there")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    text = pathlib.Path(args.rendered).read_text() if args.rendered else None
    documents = list(yaml.safe_load_all(text)) if text else render()
    if args.write:
        pathlib.Path(args.write).write_text(yaml.safe_dump_all(documents))
    if args.podman:
        print("\n".join(podman_arguments(documents, args.podman)))
        return
    found = problems(documents) + (self_test(documents) if args.self_test else [])
    print("\n".join(found) or f"{len(documents)} documents fit together")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
