{{- define "headrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "headrace.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "headrace.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "headrace.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "headrace.selectorLabels" -}}
app.kubernetes.io/name: {{ include "headrace.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* The chart's own labels over those of `more` over the common ones: none is there twice, and selectors hold. */}}
{{- define "headrace.labelsOver" -}}
{{- $own := include "headrace.ownLabels" .root | fromYaml }}
{{- toYaml (merge $own (default dict .more) (default dict .root.Values.commonLabels)) }}
{{- end }}

{{- define "headrace.labels" -}}
{{- include "headrace.labelsOver" (dict "root" .) }}
{{- end }}

{{- define "headrace.ownLabels" -}}
{{ include "headrace.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "headrace.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "headrace.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "headrace.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Each verb is used by the operator or granted by it to pollers; a test compares them with the code. */}}
{{- define "headrace.rules" -}}
- apiGroups: [headrace.dev]
  resources: [eventsourcemappings]
  verbs: [get, list, watch]
- apiGroups: [headrace.dev]
  resources: [eventsourcemappings/status]
  verbs: [patch]
# Of these four it only reads, if anything; the rest is what it grants to pollers, and nobody may grant what he does not hold.
- apiGroups: [headrace.dev]
  resources: [shardleases]
  verbs: [get, list, watch, create, update]
- apiGroups: [headrace.dev]
  resources: [windowstates]
  verbs: [get, list, create, delete]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
# The children of a mapping. They go with it by garbage collection; only an account it does not need any more is deleted.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, update]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, update]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, update, delete]
# Why pollers do not run (a crash, an image that cannot be pulled) stands nowhere but in their pods.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, update]
{{- end }}

{{/* The newest version of PodDisruptionBudget that the cluster serves. Without a cluster helm claims to know every version. */}}
{{- define "headrace.pdbVersion" -}}
{{- $version := .Capabilities.KubeVersion.Version }}
{{- if and (.Capabilities.APIVersions.Has "policy/v1") (semverCompare ">=1.21-0" $version) }}policy/v1
{{- else if and (.Capabilities.APIVersions.Has "policy/v1beta1") (semverCompare "<1.25-0" $version) }}policy/v1beta1
{{- end }}
{{- end }}
