{{- /* Rules for the controller: {root, name, namespace, rules}; in one namespace, or everywhere where it is empty. */}}
{{- define "vmpower.grant" -}}
{{- $kind := empty .namespace | ternary "ClusterRole" "Role" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  {{- include "vmpower.grant.metadata" . | nindent 2 }}
rules:
{{ .rules | trim }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  {{- include "vmpower.grant.metadata" . | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ .name }}}
subjects:
- {kind: ServiceAccount, name: {{ include "vmpower.serviceAccount" .root }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{- define "vmpower.grant.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "vmpower.labels" (dict "root" .root "component" "controller") | nindent 2 }}
{{- end }}
