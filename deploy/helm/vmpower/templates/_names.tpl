{{- define "vmpower.fullname" -}}
{{- $default := contains "vmpower" .Release.Name | ternary .Release.Name (printf "%s-vmpower" .Release.Name) }}
{{- .Values.fullnameOverride | default $default | trunc 32 | trimSuffix "-" }}
{{- end }}

{{- define "vmpower.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "vmpower.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* The Secret of the controller's client certificate: the one that is named, or the one that cert-manager writes. */}}
{{- define "vmpower.controller.tlsSecret" -}}
{{- .Values.controller.tls.secret | default (.Values.certManager.enabled | ternary (printf "%s-tls" (include "vmpower.fullname" .)) "") }}
{{- end }}

{{- /* What tells one kind of pod: {root, component}. */}}
{{- define "vmpower.selector" -}}
app.kubernetes.io/name: vmpower
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "vmpower.labels" -}}
{{ include "vmpower.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of what is not one pod's: {root, name, component}. */}}
{{- define "vmpower.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "vmpower.labels" . | nindent 2 }}
{{- end }}
