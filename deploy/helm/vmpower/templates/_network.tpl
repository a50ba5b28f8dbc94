{{- /* What may come in to every pod: kubelets' probes (they have nodes' addresses) and, where wanted, scrapes. */}}
{{- define "vmpower.ingress" -}}
- ports: {{ include "vmpower.ports" .health }}
{{- if .root.Values.metrics.enabled }}
- ports: {{ include "vmpower.ports" .metrics }}
  {{- with .root.Values.metrics.from }}
  from:
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "vmpower.egress.dns" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}

{{- /* {cidr, ports}; without ports, all of them. */}}
{{- define "vmpower.egress.to" -}}
- to: [{ipBlock: {cidr: {{ quote .cidr }}}}]
  {{- with .ports }}
  ports: {{ include "vmpower.ports" . }}
  {{- end }}
{{- end }}

{{- define "vmpower.ports" -}}
{{- $ports := list }}
{{- range . }}
{{- $ports = append $ports (dict "port" (int .) "protocol" "TCP") }}
{{- end }}
{{- toJson $ports }}
{{- end }}
