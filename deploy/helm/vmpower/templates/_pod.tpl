{{- /* What every container of ours has: the image, and no more rights than a program needs. */}}
{{- define "vmpower.program" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
image: {{ printf "%s%s%s" .Values.image.repository (hasPrefix "sha256:" $tag | ternary "@" ":") $tag }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Health at this port. A provider whose hypervisor is away is alive and not ready. */}}
{{- define "vmpower.probes" -}}
startupProbe: # a long journal is read before anybody is served
  grpc: {port: {{ . }}, service: liveness}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  grpc: {port: {{ . }}, service: liveness}
  timeoutSeconds: 5
readinessProbe:
  grpc: {port: {{ . }}}
  periodSeconds: 5
{{- end }}

{{- /* metadata of a pod's template: {root, component, pod}. */}}
{{- define "vmpower.pod.metadata" -}}
labels:
  {{- merge (include "vmpower.selector" . | fromYaml) .pod.labels | toYaml | nindent 2 }}
{{- with .pod.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What does not depend on what runs in it: {root, component, pod}. */}}
{{- define "vmpower.pod.spec" -}}
automountServiceAccountToken: false # what needs the token mounts it
enableServiceLinks: false # Services named vmpower-... would make variables that look like settings
terminationGracePeriodSeconds: {{ .pod.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  {{- range $name := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- with get $.pod $name }}
  {{ $name }}: {{ int64 . }}
  {{- end }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
{{- with .pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $.pod $name }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
