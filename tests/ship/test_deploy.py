"""The manifests: valid, and made of settings, commands, routes and secrets that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import typer.main
import yaml

from wharfinger.cli import app as command_line
from wharfinger.http.app import create_app
from wharfinger.settings import read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# The oldest and the newest that the manifests are held against.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
# What an operator applies by hand, and what names the others.
BESIDE = {"kustomization.yaml", "secrets.example.yaml", "migrate-post.yaml"}

DOCUMENTS = [
    document
    for file in sorted(KUBERNETES.glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in yaml.safe_load_all(file.read_text("utf-8"))
]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
CONTAINERFILE = (DEPLOY / "Containerfile").read_text("utf-8")
SETTINGS = {setting.variable for setting in read_settings({}, {}).described}


def name_of(document):
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(*kinds):
    return [document for document in DOCUMENTS if document["kind"] in kinds]


PODS = [pytest.param(d["spec"]["template"], id=name_of(d)) for d in of_kind("Deployment", "Job")]


def containers(template):
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


# --- valid ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_manifest_is_valid(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_the_kustomization_names_every_manifest_but_those_applied_by_hand():
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))

    files = {file.name for file in KUBERNETES.glob("*.yaml")}
    assert set(kustomization["resources"]) == files - BESIDE
    assert {image["name"] for image in kustomization["images"]} == {
        container["image"] for pod in PODS for container in containers(pod.values[0])
    }


# --- they cannot rot -----------------------------------------------------------------------------


def command(words):
    """The options of the command that these words begin, which must exist."""
    found = typer.main.get_command(command_line).commands[words[0]]
    return {option for parameter in found.params for option in parameter.opts}


def arguments_of_all():
    for pod in PODS:
        yield from (container["args"] for container in containers(pod.values[0]))
    yield from (s["command"] for s in COMPOSE["services"].values() if "command" in s)
    yield from (
        yaml.safe_load(words) for words in re.findall(r"^CMD (.+)$", CONTAINERFILE, re.MULTILINE)
    )


@pytest.mark.parametrize("words", list(arguments_of_all()), ids=" ".join)
def test_every_command_line_is_one(words):
    given = {word.partition("=")[0] for word in words[1:]}

    assert given <= command(words)


def variables_of_all():
    (config,) = of_kind("ConfigMap")
    yield from config["data"]
    for pod in PODS:
        for container in containers(pod.values[0]):
            yield from (one["name"] for one in container.get("env", []))
    yield from COMPOSE["x-environment"]
    yield from COMPOSE["services"]["migrate"]["environment"]
    yield from re.findall(r"(WHARFINGER_\w+)=", CONTAINERFILE)


@pytest.mark.parametrize("variable", sorted(set(variables_of_all())))
def test_every_variable_is_a_setting(variable):
    assert variable in SETTINGS


def test_every_value_is_one_that_its_setting_accepts():
    (config,) = of_kind("ConfigMap")

    settings = read_settings(environment=config["data"])

    assert (settings.workers, settings.migrations, settings.drain_s) == (0, "none", 5)
    assert read_settings(environment=COMPOSE["x-environment"]).migrations == "none"


def test_every_secret_that_is_asked_for_is_in_the_example():
    secrets = {s["metadata"]["name"]: set(s["stringData"]) for s in of_kind("Secret")}

    for pod in PODS:
        spec = pod.values[0]["spec"]
        for container in containers(pod.values[0]):
            for one in container.get("env", []):
                reference = one["valueFrom"]["secretKeyRef"]
                assert reference["key"] in secrets[reference["name"]]
        for volume in spec.get("volumes", []):
            if "secret" in volume:
                wanted = {item["key"] for item in volume["secret"]["items"]}
                assert wanted <= secrets[volume["secret"]["secretName"]]


def test_only_the_jobs_hold_the_owners_password():
    for document in of_kind("Deployment"):
        assert "wharfinger-owner" not in yaml.safe_dump(document)


def probes_of(name):
    (deployment,) = (d for d in of_kind("Deployment") if d["metadata"]["name"] == name)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    probes = {k: v["httpGet"] for k, v in container.items() if k.endswith("Probe")}
    assert {probe["port"] for probe in probes.values()} <= ports
    return {kind: probe["path"] for kind, probe in probes.items()}


def test_every_probe_asks_a_route_that_exists():
    routes = {route.path for route in create_app(None)._app.routes}

    probes = probes_of("wharfinger-serve")

    assert set(probes.values()) <= routes
    assert probes == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    # The port of its metrics is all that a worker listens on.
    assert probes_of("wharfinger-worker") == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
    }


def test_a_pod_is_given_the_time_that_it_takes_to_stop():
    (config,) = of_kind("ConfigMap")
    drain_s = int(config["data"]["WHARFINGER_DRAIN_S"])

    for document in of_kind("Deployment"):
        spec = document["spec"]["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] > drain_s + 2 * 5


def test_whatever_selects_pods_selects_some():
    labels = [pod.values[0]["metadata"]["labels"] for pod in PODS]
    selectors = [d["spec"]["selector"] for d in of_kind("Service")]
    selectors += [
        d["spec"]["selector"]["matchLabels"] for d in of_kind("Deployment", "PodDisruptionBudget")
    ]
    selectors += [d["spec"]["podSelector"]["matchLabels"] for d in of_kind("NetworkPolicy")]

    assert len(selectors) == 7
    for selector in selectors:
        assert any(selector.items() <= one.items() for one in labels), selector
    scaled = {d["spec"]["scaleTargetRef"]["name"] for d in of_kind("HorizontalPodAutoscaler")}
    assert scaled <= {d["metadata"]["name"] for d in of_kind("Deployment")}


# --- they give nothing away ----------------------------------------------------------------------


@pytest.mark.parametrize("template", PODS)
def test_no_pod_may_more_than_it_must(template):
    spec = template["spec"]

    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in containers(template):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_key_is_mounted_as_a_file_that_only_the_group_may_read():
    for document in of_kind("Deployment"):
        volumes = document["spec"]["template"]["spec"]["volumes"]
        (key,) = (volume for volume in volumes if volume["name"] == "key")

        assert key["secret"]["defaultMode"] == 0o440


# --- Compose and the image -----------------------------------------------------------------------


def test_compose_mounts_and_builds_what_there_is():
    services = COMPOSE["services"]
    mounts = [mount for s in services.values() for mount in s.get("volumes", [])]

    for mount in mounts:
        source = mount.partition(":")[0]
        assert (DEPLOY / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
    build = services["serve"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Containerfile")
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        if name != "postgres":
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]


def test_compose_makes_the_roles_that_its_addresses_name():
    made = set(
        re.findall(r"CREATE ROLE (\w+) LOGIN", (DEPLOY / "compose-database.sql").read_text("utf-8"))
    )
    named = set(re.findall(r"postgresql://(\w+):", (DEPLOY / "compose.yaml").read_text("utf-8")))

    assert made == named == {"wharfinger_owner", "wharfinger_app"}


def instructions():
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_of_what_there_is():
    copied = [
        shlex.split(rest)
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
    ]

    sources = [source for words in copied for source in words[:-1]]
    assert len(sources) == 6
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_installs_by_the_locks_and_runs_as_nobody_special():
    calls = [
        call
        for word, rest in instructions()
        if word == "RUN"
        for call in rest.split("&&")
        if "-m pip" in call
    ]

    assert len(calls) == 4
    for call in calls:
        assert "--require-hashes" in call or {"--no-index", "--no-deps"} <= set(call.split())
        assert "index-url" not in call
    assert ["USER", "10001:10001"] in instructions()
    assert {pod.values[0]["spec"]["securityContext"]["runAsUser"] for pod in PODS} == {10001}
