"""The shapes of HSS v5 as they go over the wire; names and units are the contract's."""

from __future__ import annotations

from typing import Literal

import msgspec

# A word of our own for images of plain registries, which HSS v5 cannot name.
ImageType = str


class AssociatedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One platform of a multi-architecture image."""

    id: int | None
    image_id: str
    image_name: str
    image_version: str
    image_type: ImageType
    namespace: str
    image_digest: str
    scan_status: str = "unscan"
    vul_num: int = 0
    unsafe_setting_num: int = 0
    malicious_file_num: int = 0


class RegistryImage(msgspec.Struct, frozen=True, kw_only=True):
    """``RegistryImagesInfo``. What only a scan could know stands at "not scanned"."""

    id: int
    namespace: str
    image_name: str
    image_id: str
    image_digest: str
    image_version: str
    image_type: ImageType
    registry_id: str
    registry_name: str
    registry_type: str
    latest_version: bool
    image_size: int
    latest_update_time: int
    latest_sync_time: int
    is_multiple_arch: bool
    domain_name: str | None
    shared_status: str | None
    association_images: list[AssociatedImage]
    scan_status: str = "unscan"
    scan_failed_desc: str | None = None
    scan_failed_code: str | None = None
    latest_scan_time: int | None = None
    vul_num: int = 0
    unsafe_setting_num: int = 0
    malicious_file_num: int = 0
    scannable: bool = False
    instance_name: str | None = None
    instance_id: str | None = None
    instance_url: str | None = None
    severity_level: str | None = None


class RegistryImages(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/registries/images``."""

    total_num: int
    data_list: list[RegistryImage]


class SwrAssociatedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One platform of a multi-architecture image, in the older list."""

    image_name: str
    image_version: str
    image_type: ImageType
    namespace: str
    image_digest: str
    scan_status: str = "unscan"


class SwrImage(msgspec.Struct, frozen=True, kw_only=True):
    """``PrivateImageRepositoryInfo``."""

    id: int
    namespace: str
    image_name: str
    image_id: str
    image_digest: str
    image_version: str
    image_type: ImageType
    latest_version: bool
    image_size: int
    latest_update_time: int
    domain_name: str | None
    shared_status: str | None
    association_images: list[SwrAssociatedImage]
    scan_status: str = "unscan"
    scan_failed_desc: str | None = None
    latest_scan_time: int | None = None
    vul_num: int = 0
    unsafe_setting_num: int = 0
    malicious_file_num: int = 0
    scannable: bool = False
    instance_name: str | None = None
    instance_id: str | None = None
    instance_url: str | None = None


class SwrImages(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/swr-repository``."""

    total_num: int
    data_list: list[SwrImage]


class AssetStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/asset/statistics``; each number ends at 65535."""

    registry_num: int
    local_num: int = 0
    cicd_num: int = 0


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """``RegistryInfo``."""

    id: str
    registry_name: str
    registry_type: str
    api_version: str | None
    protocol: str
    registry_addr: str
    registry_username: str | None
    status: Literal["success", "fail", "accessing"]
    fail_reason: str | None
    images_num: int
    latest_sync_time: int | None
    namespace: str | None = None
    connect_cluster_id: str | None = None
    get_scan_image_channel: str | None = None


class Registries(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/registries``."""

    total_num: int
    data_list: list[Registry]


class SynchronizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the founding call."""

    image_type: str | None = None


class Synchronized(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the founding call; ``task_id`` is ours."""

    error_code: int
    error_description: str
    task_id: str


class ChosenRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """A registry to synchronise: one, or all of a type."""

    registry_id: str | None = None
    registry_type: str | None = None


class SynchronizeTaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``image/image-sync/tasks``."""

    sync_all_registries: bool | None = None
    registry_info: list[ChosenRegistry] | None = None


class SynchronizeTask(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/image-sync/tasks``; the key is ours."""

    task_id: str


class FailedImage(msgspec.Struct, frozen=True, kw_only=True):
    """What a task could not read. Which tags a repository holds is then unknown."""

    registry_id: str
    registry_name: str
    registry_type: str
    namespace: str
    image_name: str
    failed_reason: str
    id: int | None = None
    image_version: str | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """``ImageScanTaskInfo``."""

    task_id: str
    task_name: str
    begin_time: int
    end_time: int | None
    task_type: str
    sync_task_type: str
    task_status: int
    is_all: bool
    failed_num: int
    success_num: int
    total_num: int
    failed_reason: str | None
    failed_images: list[FailedImage]
    image_type: str = "registry"
    policy_id: str | None = None
    remain_min: int | None = None
    scan_scope: int | None = None
    rate_limit: int | None = None
    risky_num: int = 0


class Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/tasks``."""

    total_num: int
    data_list: list[Task]


class TaskRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """``AssociateRegistriesResponseInfo``; ``failed_code`` is ours, and for programs."""

    registry_id: str
    registry_name: str
    registry_type: str
    sync_status: Literal["finished", "running", "failed"]
    failed_reason: str | None
    failed_code: str | None = None


class TaskRegistries(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/image-sync/tasks/{task_id}/registries``."""

    total_num: int
    data_list: list[TaskRegistry]


class RegistryStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/registries/statistics``."""

    fail_num: int
    success_num: int


class UploadCommand(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/registries/image-upload-command``."""

    image_command: str
    swr_image_pull_command: str
    images_download_url: str | None = None


class PolicyRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """``ImageScanPolicyRespInfoRegistryList``."""

    registry_id: str
    registry_name: str
    registry_type: str
    is_selected: bool = False


class ScanPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``image/scanner-policies``: what is read every few days; nothing is scanned."""

    total_registry_num: int
    registry_list: list[PolicyRegistry]
    is_all: bool = False
    enabled: bool = False
    scan_cycle: int | None = None
    scan_scope: int = 0
    rate_limit: int = 0
    time_scope: int = 0


class PolicyChoice(ChosenRegistry, frozen=True, kw_only=True):
    """A registry that a policy is for: one, or all of a type. Its name decides nothing."""

    registry_name: str | None = None


class ScanPolicyBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``ModifyImageScanPolicy``."""

    enabled: bool | None = None
    scan_cycle: int | None = None
    scan_scope: int | None = None
    rate_limit: int | None = None
    time_scope: int | None = None
    registry_info: list[PolicyChoice] | None = None


class ContainerImage(msgspec.Struct, frozen=True, kw_only=True):
    """``ContainerImageInfo``."""

    image_id: str
    image_name: str
    image_version: str
    create_time: int


class ContainerImages(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``container/images``."""

    total_num: int
    data_list: list[ContainerImage]


class UpdateRegistryBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``UpdateRegistry``."""

    api_version: str | None = None
    protocol: str | None = None
    registry_addr: str | None = None
    registry_username: str | None = None
    registry_password: str | None = None
    namespace: str | None = None
    connect_cluster_id: str | None = None
    get_scan_image_channel: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(registry_addr={self.registry_addr!r}, ***)"


class AddRegistryBody(UpdateRegistryBody, frozen=True, kw_only=True):
    """The body of ``AddRegistry``."""

    registry_name: str | None = None
    registry_type: str | None = None


class DeleteRegistriesBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``BatchDeleteRegistry``."""

    ids: list[str] = []


class AddedRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``AddRegistry``; the key is ours."""

    id: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that has nothing to tell."""


class ImageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``ContainerImageLogResponseInfo``. ``content`` is JSON."""

    resource_name: str
    resource_type: str
    event_name: str
    event_id: str
    event_type: str
    source_ip: str
    user_name: str
    time: int
    content: str


class ImageEvents(msgspec.Struct, frozen=True, kw_only=True):
    """``ListContainerImageLogsResponse``."""

    total_num: int
    data_list: list[ImageEvent]
