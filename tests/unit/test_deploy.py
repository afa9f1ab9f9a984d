"""What is in deploy/ is what Kubernetes takes, and asks for no more than it says."""

import copy
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.test_house import ROOT

MANIFEST = ROOT / "deploy" / "kubernetes" / "daemonset.yaml"
DOCUMENTS: dict[str, dict[str, Any]] = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}
VERSIONS = ("1.31", "1.37")


def container(document: dict[str, Any]) -> dict[str, Any]:
    (only,) = document["spec"]["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_kubernetes_own_schemas_accept_it(kind: str, version: str) -> None:
    """Strictly: an unknown field, which the API server would drop, is an error."""
    kubernetes_validate.validate(DOCUMENTS[kind], version, strict=True)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda it: it["spec"].update(replicas=3),
        lambda it: container(it)["securityContext"].update(privileged="no"),
        lambda it: container(it).pop("name"),
    ],
)
def test_the_schemas_refuse_what_is_wrong(break_it: Any) -> None:
    document = copy.deepcopy(DOCUMENTS["DaemonSet"])
    break_it(document)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_it_has_no_more_privileges_than_it_explains() -> None:
    """No privileged container, no host namespaces, the file system read only; a reason behind every capability."""
    pod = DOCUMENTS["DaemonSet"]["spec"]["template"]["spec"]
    security = container(DOCUMENTS["DaemonSet"])["securityContext"]

    assert security["capabilities"]["drop"] == ["ALL"]
    assert (security["privileged"], security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (
        False,
        False,
        True,
    )
    assert not [name for name in pod if name.startswith("host")]
    lines = MANIFEST.read_text().splitlines()
    for capability in security["capabilities"]["add"]:
        assert re.search(rf"- {capability} # \w+", "\n".join(lines)), f"{capability}: what for?"


def test_every_mount_of_the_host_is_read_only_and_explained() -> None:
    pod = DOCUMENTS["DaemonSet"]["spec"]["template"]["spec"]
    mounts = {each["name"]: each for each in container(DOCUMENTS["DaemonSet"])["volumeMounts"]}
    from_host = [volume["name"] for volume in pod["volumes"] if "hostPath" in volume]

    assert from_host == ["tracefs"]
    for name in from_host:
        assert mounts[name]["readOnly"]
        assert re.search(rf"# .+\n +- name: {name}\n", MANIFEST.read_text()), f"{name}: what for?"


def test_what_is_compiled_is_kept_where_the_pod_may_write() -> None:
    (cache,) = container(DOCUMENTS["DaemonSet"])["env"]
    writable = [
        each["mountPath"] for each in container(DOCUMENTS["DaemonSet"])["volumeMounts"] if "readOnly" not in each
    ]

    assert cache["name"] == "CACHE_DIRECTORY"
    assert [place for place in writable if cache["value"].startswith(f"{place}/")] == ["/tmp"]  # noqa: S108


def test_ports_agree() -> None:
    """Where it listens, what is scraped, and what the alerts' configuration scrapes."""
    listen = re.search(r'listen = "[\d.]+:(\d+)"', DOCUMENTS["ConfigMap"]["data"]["kmwatch.toml"])
    pod = DOCUMENTS["DaemonSet"]["spec"]["template"]
    (port,) = container(DOCUMENTS["DaemonSet"])["ports"]
    local = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"][0]

    assert listen
    assert {int(listen[1]), port["containerPort"], int(pod["metadata"]["annotations"]["prometheus.io/port"])} == {9436}
    assert local["static_configs"][0]["targets"] == ["127.0.0.1:9436"]
