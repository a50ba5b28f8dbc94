{{- define "vmpower.controller.container" -}}
{{- $tls := include "vmpower.controller.tlsSecret" . -}}
name: controller
{{ include "vmpower.program" . }}
command: [python, -m, controller]
args:
- --kubernetes
{{- with .Values.watchNamespace }}
- --namespace={{ . }}
{{- end }}
{{- if ne .Values.apiGroup "infra.virtrigaud.io" }}
- --api-group={{ .Values.apiGroup }}
{{- end }}
- --lease-namespace={{ .Release.Namespace }}
- --lease-name={{ include "vmpower.fullname" . }}
- --lease-duration={{ .Values.controller.leaseDuration }}
- --state-dir=/var/lib/vmpower
- --listen=unix:///var/lib/vmpower/plans.sock
- --health-listen={{ .Values.bindAddress }}:9440
- --workers={{ int .Values.controller.workers }}
- --log-level={{ .Values.logLevel }}
{{- if .Values.metrics.enabled }}
- --metrics-listen={{ .Values.bindAddress }}:9100
{{- end }}
{{- with include "vmpower.controller.trusted" . }}
- --trusted-providers={{ . }}
{{- end }}
{{- if .Values.controller.selfLast }}
- --self-namespace={{ .Release.Namespace }}
{{- end }}
{{- if $tls }}
- --tls-ca=/etc/vmpower/tls/ca.crt
- --tls-cert=/etc/vmpower/tls/tls.crt
- --tls-key=/etc/vmpower/tls/tls.key
{{- end }}
env:
- {name: VMPOWER_CONFIG, value: /etc/vmpower/cli/config.yaml} # for `vmpower`, by kubectl exec
- {name: VMPOWER_CONTROLLER, value: "unix:///var/lib/vmpower/plans.sock"} # likewise, for `vmpower plan`
ports:
- {name: health, containerPort: 9440}
{{- if .Values.metrics.enabled }}
- {name: metrics-9100, containerPort: 9100}
{{- end }}
{{ include "vmpower.probes" 9440 }}
resources:
  {{- toYaml .Values.controller.resources | nindent 2 }}
volumeMounts:
- {name: kube-api, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
- {name: cli, mountPath: /etc/vmpower/cli, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: runs, mountPath: /var/lib/vmpower}
{{- if eq .Values.form "sidecar" }}
- {name: sockets, mountPath: /run/vmpower, readOnly: true} # it connects, and makes no socket
{{- end }}
{{- if $tls }}
- {name: tls, mountPath: /etc/vmpower/tls, readOnly: true}
{{- end }}
{{- with .Values.controller.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The chart's own Providers, each at its endpoint alone: who may edit one cannot lead the controller elsewhere. */}}
{{- define "vmpower.controller.trusted" -}}
{{- $namespace := .Values.watchNamespace | default .Release.Namespace }}
{{- $trusted := .Values.controller.trustedProviders }}
{{- range (include "vmpower.providers" . | fromJson).all }}
{{- $trusted = append $trusted (printf "%s/%s=%s" $namespace .name .target) }}
{{- end }}
{{- join "," $trusted }}
{{- end }}

{{- /* The token is for the controller's container alone: providers share the pod, and not its rights. */}}
{{- define "vmpower.controller.volumes" -}}
- name: kube-api
  projected:
    defaultMode: 0440
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3607}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
- {name: cli, configMap: {name: {{ include "vmpower.fullname" . }}-cli}}
- {name: tmp, emptyDir: {}}
- {name: runs, emptyDir: {}} # what another pod needs of a run is in the status of its PowerRun
{{- if eq .Values.form "sidecar" }}
- {name: sockets, emptyDir: {}}
{{- end }}
{{- with include "vmpower.controller.tlsSecret" . }}
- {name: tls, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.controller.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
