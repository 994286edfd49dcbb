"""Every parameter and every field of the official SDK's models is ours as well."""

import json
from urllib.parse import urlencode

import msgspec
import pytest
from clients import call
from hss_coverage import coverage

from wharfinger.http.hss import wire

# What a route asks for in any case.
NEEDED = {
    "ListImageScanTask": {"type": "image_sync"},
    "ListSwrImageRepository": {"image_type": "private_image"},
    "ListImageScanPolicy": {"type": "image_scan"},
    "ShowImageUploadCommand": {
        "registry_addr": "harbor.example",
        "namespace": "team",
        "username": "robot",
        "password": "secret-of-robot",
    },
}
# The SDK's model, our shape, and the keys that are ours alone.
SHAPES = [
    ("RegistryInfo", wire.Registry, set()),
    ("ContainerImageLogResponseInfo", wire.ImageEvent, set()),
    ("ListContainerImageLogsResponse", wire.ImageEvents, set()),
    ("RegistryImagesInfo", wire.RegistryImage, set()),
    ("AssociateImagesInfo", wire.AssociatedImage, set()),
    ("PrivateImageRepositoryInfo", wire.SwrImage, set()),
    ("AssociateImages", wire.SwrAssociatedImage, set()),
    ("ImageScanTaskInfo", wire.Task, set()),
    ("ImageScanTaskInfoFailedImages", wire.FailedImage, set()),
    ("AssociateRegistriesResponseInfo", wire.TaskRegistry, {"failed_code"}),
    ("ListRegistryResponse", wire.Registries, set()),
    ("ListRegistryImagesResponse", wire.RegistryImages, set()),
    ("ListSwrImageRepositoryResponse", wire.SwrImages, set()),
    ("ListImageScanTaskResponse", wire.Tasks, set()),
    ("ListAssociateRegistriesResponse", wire.TaskRegistries, set()),
    ("ListRegistryStatisticsResponse", wire.RegistryStatistics, set()),
    ("ShowImageUploadCommandResponse", wire.UploadCommand, set()),
    ("ShowImageAssetStatisticsResponse", wire.AssetStatistics, set()),
    ("ListImageScanPolicyResponse", wire.ScanPolicy, set()),
    ("ImageScanPolicyRespInfoRegistryList", wire.PolicyRegistry, set()),
    ("ModifyImageScanPolicyResponse", wire.Done, set()),
    ("CycleImageScanPolicyReqInfo", wire.ScanPolicyBody, set()),
    ("CycleImageScanPolicyReqInfoRegistryInfo", wire.PolicyChoice, set()),
    ("ListContainerImagesResponse", wire.ContainerImages, set()),
    ("ContainerImageInfo", wire.ContainerImage, set()),
    ("RunImageSynchronizeResponse", wire.Synchronized, {"task_id"}),
    ("CreateImageSynchronizeTaskResponse", wire.SynchronizeTask, {"task_id"}),
    ("AddRegistryResponse", wire.AddedRegistry, {"id"}),
    ("UpdateRegistryResponse", wire.Done, set()),
    ("DeleteRegistryResponse", wire.Done, set()),
    ("BatchDeleteRegistryResponse", wire.Done, set()),
    ("RunImageSynchronizeRequestInfo", wire.SynchronizeRequest, set()),
    ("CreateImageSynchronizeTaskRequestInfo", wire.SynchronizeTaskRequest, set()),
    ("CreateImageSynchronizeTaskRequestInfoRegistryInfo", wire.ChosenRegistry, set()),
    ("AddRegistryRequestBody", wire.AddRegistryBody, set()),
    ("UpdateRegistryRequestBody", wire.UpdateRegistryBody, set()),
    ("BatchDeleteRegistryRequestBody", wire.DeleteRegistriesBody, set()),
]
TYPES = {"str": "string", "int": "integer", "bool": "boolean"}


@pytest.mark.parametrize(("model", "shape", "ours"), SHAPES, ids=[name for name, _, _ in SHAPES])
def test_a_shape_has_the_fields_and_types_of_the_sdks_model(model, shape, ours):
    from huaweicloudsdkhss import v5

    theirs = getattr(v5, model).openapi_types
    (schemas, components) = msgspec.json.schema_components([shape])
    properties = components[schemas[0]["$ref"].rpartition("/")[2]]["properties"]

    assert set(properties) == set(theirs) | ours
    for name, kind in theirs.items():
        wanted = "array" if kind.startswith("list[") else TYPES[kind]
        assert wanted in types_of(properties[name]), name


def types_of(schema):
    if "enum" in schema:
        return {TYPES[type(value).__name__] for value in schema["enum"]}
    return {schema.get("type")} | {one.get("type") for one in schema.get("anyOf", ())}


def questions():
    """Every query parameter of every offered operation, as the SDK sends it."""
    from huaweicloudsdkhss import v5

    for one, since in coverage():
        if since is None:
            continue
        request = getattr(v5, f"{one.name}Request")()
        for attribute in request.attribute_map:
            setattr(request, attribute, "x")
        sent = getattr(v5.HssClient, f"_{one.function}_http_info")(request)
        for name, _ in sent["query_params"]:
            yield pytest.param(one, name, id=f"{one.name}-{name}")


@pytest.mark.parametrize(("operation", "parameter"), list(questions()))
def test_every_parameter_of_the_sdk_is_read(house, tenant, operation, parameter):
    twice = [(parameter, "10"), (parameter, "10")]
    given = [pair for pair in NEEDED.get(operation.name, {}).items() if pair[0] != parameter]
    path = operation.path.replace("{task_id}", "x").replace("{id}", "x")
    body = {"image_type": "private_image", "ids": ["x"]} | {"sync_all_registries": True}

    status, _, answer = call(
        house,
        f"/v5/{tenant.id}/{path}?{urlencode(given + twice)}",
        token=tenant.token,
        method=operation.method,
        body=None if operation.method == "GET" else json.dumps(body).encode(),
    )

    assert (status, answer["error_msg"]) == (400, f"{parameter}: must be given once")
