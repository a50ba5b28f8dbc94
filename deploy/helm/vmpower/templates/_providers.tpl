{{- /*
The providers with what they leave out, and what follows from their form: {"all": [...]} as JSON.
Containers of one pod share its ports, so that the n-th sidecar gets the n-th port.
*/}}
{{- define "vmpower.providers" -}}
{{- $sidecar := eq .Values.form "sidecar" }}
{{- $all := list }}
{{- range $index, $entry := .Values.providers }}
{{- $fullname := printf "%s-%s" (include "vmpower.fullname" $) $entry.name }}
{{- $place := $sidecar | ternary (add1 $index) 0 }}
{{- $socket := printf "unix:///run/vmpower/%s/grpc.sock" $entry.name }}
{{- $address := dict "listen" $socket "target" $socket }}
{{- if not $sidecar }}
{{- $listen := printf "%s:9443" $.Values.bindAddress }}
{{- $address = dict "listen" $listen "target" (printf "%s.%s.svc:9443" $fullname $.Release.Namespace) }}
{{- end }}
{{- $more := dict "fullname" $fullname "component" (printf "provider-%s" $entry.name) }}
{{- $ports := dict "healthPort" (add 9440 $place) "metricsPort" (add 9100 $place) }}
{{- $provider := mergeOverwrite (deepCopy $.Values.providerDefaults) $entry $more $ports $address }}
{{- if and $.Values.certManager.enabled (not $provider.tls.secret) }}
{{- $provider = mergeOverwrite $provider (dict "certificate" true "tls" (dict "secret" (printf "%s-tls" $fullname))) }}
{{- end }}
{{- $all = append $all $provider }}
{{- end }}
{{- dict "all" $all | toJson }}
{{- end }}

{{- define "vmpower.provider.container" -}}
{{- $separate := eq .root.Values.form "separate" -}}
name: {{ .provider.component }}
{{ include "vmpower.program" .root }}
command: [python, -m, providers.{{ .provider.type }}]
args:
- --listen={{ .provider.listen }}
- --health-listen={{ .root.Values.bindAddress }}:{{ .provider.healthPort }}
- --state-dir=/var/lib/vmpower
- --log-level={{ .root.Values.logLevel }}
{{- if .root.Values.metrics.enabled }}
- --metrics-listen={{ .root.Values.bindAddress }}:{{ .provider.metricsPort }}
{{- end }}
{{- if $separate }}
- --tls-cert=/etc/vmpower/tls/tls.crt
- --tls-key=/etc/vmpower/tls/tls.key
- --tls-client-ca=/etc/vmpower/tls/ca.crt
- --operators={{ prepend .provider.operators .root.Values.controller.tls.name | join "," }}
{{- $name := .root.Values.controller.tls.name }}
{{- $typed := contains ":" $name | ternary $name (printf "cn:%s,dns:%s" $name $name) }}
- --delegates={{ contains "://" $name | ternary (printf "uri:%s" (trimPrefix "uri:" $name)) $typed }}
{{- with .provider.tls.crlConfigMap }}
- --tls-client-crl=/etc/vmpower/crl/ca.crl
{{- end }}
{{- with .provider.tls.maxConnectionAge }}
- --max-connection-age={{ . }}
{{- end }}
{{- else if .provider.operatorUids }}
- --operator-uids={{ prepend .provider.operatorUids .root.Values.pod.runAsUser | join "," }}
{{- end }}
{{- range .provider.args }}
- {{ quote . }}
{{- end }}
{{- include "vmpower.provider.env" .provider }}
ports:
- {name: health-{{ .provider.healthPort }}, containerPort: {{ .provider.healthPort }}}
{{- if .root.Values.metrics.enabled }}
- {name: metrics-{{ .provider.metricsPort }}, containerPort: {{ .provider.metricsPort }}}
{{- end }}
{{- if $separate }}
- {name: grpc, containerPort: 9443}
{{- end }}
{{ include "vmpower.probes" .provider.healthPort }}
resources:
  {{- toYaml .provider.resources | nindent 2 }}
{{ include "vmpower.provider.mounts" (dict "provider" .provider "separate" $separate) }}
{{- end }}

{{- define "vmpower.provider.env" -}}
{{- $env := .env }}
{{- if .credentialsSecret }}
{{- $env = prepend $env (dict "name" "VMPOWER_CREDENTIALS_DIR" "value" "/etc/vmpower/credentials") }}
{{- end }}
{{- with $env }}
env:
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "vmpower.provider.mounts" -}}
volumeMounts:
- {name: state-{{ .provider.name }}, mountPath: /var/lib/vmpower}
- {name: tmp-{{ .provider.name }}, mountPath: /tmp}
{{- if .separate }}
- {name: tls-{{ .provider.name }}, mountPath: /etc/vmpower/tls, readOnly: true}
{{- if .provider.tls.crlConfigMap }}
- {name: crl-{{ .provider.name }}, mountPath: /etc/vmpower/crl, readOnly: true}
{{- end }}
{{- else }}
- {name: sockets, mountPath: /run/vmpower/{{ .provider.name }}, subPath: {{ .provider.name }}}
{{- end }}
{{- if .provider.credentialsSecret }}
- {name: credentials-{{ .provider.name }}, mountPath: /etc/vmpower/credentials, readOnly: true}
{{- end }}
{{- with .provider.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "vmpower.provider.volumes" -}}
{{- $provider := .provider -}}
- name: state-{{ .provider.name }}
  {{- with .provider.state }}
  {{- if .ephemeral }}
  emptyDir: {}
  {{- else }}
  persistentVolumeClaim: {claimName: {{ .existingClaim | default $provider.fullname }}}
  {{- end }}
  {{- end }}
- {name: tmp-{{ .provider.name }}, emptyDir: {}}
{{- if eq .root.Values.form "separate" }}
- {name: tls-{{ .provider.name }}, secret: {secretName: {{ .provider.tls.secret }}, defaultMode: 0440}}
{{- with .provider.tls.crlConfigMap }}
- {name: crl-{{ $provider.name }}, configMap: {name: {{ . }}}}
{{- end }}
{{- end }}
{{- with .provider.credentialsSecret }}
- {name: credentials-{{ $provider.name }}, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .provider.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
