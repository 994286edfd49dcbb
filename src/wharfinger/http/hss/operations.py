"""Every operation of HSS v5 that has to do with images, as the cloud's SDK names them."""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """One operation: its name in the SDK, its method, and its path below the project."""

    name: str
    method: str
    path: str

    @property
    def route(self) -> str:
        """The path as the application routes it."""
        return "/v5/{project_id:str}/" + self.path.replace("}", ":str}")


_TABLE = """
ListContainerImageLogs GET container/image/events
ListContainerImages GET container/images
ShowMultiCloudClusterImageCommand GET container/kubernetes/multi-cloud/image-upload-command
ListGlobalImageApps GET image/apps
ShowImageAssetStatistics GET image/asset/statistics
ShowImageCheckRuleDetail GET image/baseline/check-rule/detail
BatchExportBaselineTask POST image/baseline/export
ShowExtendedWeakPassword GET image/baseline/extended-weak-password
ChangeExtendedWeakPassword POST image/baseline/extended-weak-password
ListImagePwdComplexity GET image/baseline/password-complexity
ListImageRiskConfigs GET image/baseline/risk-configs
ListImageRiskConfigRules GET image/baseline/risk-configs/{check_name}/rules
ShowImageBaselineStatistic GET image/baseline/statistic
ListImageWeakPwdUsers GET image/baseline/weak-password-users
BatchScanSwrImage POST image/batch-scan
ListImageBuildCommandRisks GET image/build-command-risks
ListImageBuildCommandRisksImages GET image/build-command-risks/images
ListCicdConfigurations GET image/cicd/configurations
AddCicdConfiguration POST image/cicd/configurations
DeleteCicdConfigurations POST image/cicd/configurations/batch-delete
CreateCicdConfigurationCommand POST image/cicd/configurations/create-command
ShowCicdConfiguration GET image/cicd/configurations/{cicd_id}
ModifyCicdConfiguration PUT image/cicd/configurations/{cicd_id}
ListCicdImages GET image/cicd/images
ListGlobalImageFiles GET image/files
CreateManualImageScanTask POST image/image-scan/tasks
StopImageScanTask PUT image/image-scan/tasks/{task_id}/stop
CreateImageSynchronizeTask POST image/image-sync/tasks
ListAssociateRegistries GET image/image-sync/tasks/{task_id}/registries
ListImageLocal GET image/local-repositories
BatchExportLocalVulTask POST image/local-vulnerability/export
ListLocalImageAppInfo GET image/local/apps
BatchScanLocalImage POST image/local/batch-scan
ListLocalImageContainers GET image/local/containers
ListLocalImageHosts GET image/local/hosts
ListGlobalMalware GET image/malwares
ShowImagePayPerScanStatistics GET image/pay-per-scan/statistics
ListRegistry GET image/registries
AddRegistry POST image/registries
BatchDeleteRegistry POST image/registries/batch-delete
ShowImageUploadCommand GET image/registries/image-upload-command
ListRegistryImages GET image/registries/images
ListRegistryStatistics GET image/registries/statistics
DeleteRegistry DELETE image/registries/{id}
UpdateRegistry PUT image/registries/{id}
ListImageScanPolicy GET image/scanner-policies
ModifyImageScanPolicy PUT image/scanner-policies
ExportImageSecurityReportTask POST image/security-report/export-tasks
ShowImageSecurityReportStatistic POST image/security-report/statistic
ListImageSensitiveInfo GET image/sensitive-information
ShowFilePathWhiteLists GET image/sensitive/filepath-whitelist
ChangeFilePathWhiteLists POST image/sensitive/filepath-whitelist
ShowFilePathWhiteDetail GET image/sensitive/filepath_whitelist
ChangeFilePathWhiteDetail POST image/sensitive/filepath_whitelist
ChangeSensitiveInfo POST image/sensitive/operate
ListSwrImageRepository GET image/swr-repository
RunImageSynchronize POST image/synchronize
ListImageScanTask GET image/tasks
ListGlobalVulnerabilities GET image/vulnerabilities
HandleImageVulnerability POST image/vulnerability/handle
ListImageHandleAffectVulnerabilities POST image/vulnerability/handle-affect-vulnerabilities
ListGeneralImageVulOperations GET image/vulnerability/handle-history
ListVulAffectImageApps GET image/vulnerability/{image_id}/apps
ListVulAffectImageContainers GET image/vulnerability/{image_id}/containers
ListVulnerabilityCve GET image/vulnerability/{vul_id}/cve
DeleteImageWhiteLists DELETE image/whitelists
ListImageWhiteLists GET image/whitelists
AddImageWhiteLists POST image/whitelists
ShowImageWhiteListDetail GET image/whitelists/{id}
ChangeImageWhiteList PUT image/whitelists/{id}
ListImageApps GET image/{image_id}/apps
ListImageBasicImage GET image/{image_id}/basic-image
ListImageFiles GET image/{image_id}/files
ShowImageFilesStat GET image/{image_id}/files-statistics
ListImageMalware GET image/{image_id}/malwares
ListImageNonCompliantApp GET image/{image_id}/non-compliant-app
ListImageSensitive GET image/{image_id}/sensitive
ListImageVulnerabilities GET image/{image_id}/vulnerabilities
ListVulRepoImage GET image/{vul_id}/images
ListGeneralImageVuls GET images/vulnerabilities
ListVulAffectImages GET vulnerability/images
ListWebTamperImageOptions GET webtamper/image-options
"""

OPERATIONS = tuple(Operation(*line.split()) for line in _TABLE.strip().splitlines())
