{{- /* What the schema cannot say, in sentences. */}}
{{- define "vmpower.refusals" -}}
{{- $sidecar := eq .Values.form "sidecar" }}
{{- if and $sidecar (gt (int .Values.controller.replicas) 1) }}
{{- fail "controller.replicas: in the form sidecar there is one pod, for each provider keeps one journal; set form: separate to have more controllers" }}
{{- end }}
{{- if and (not $sidecar) .Values.providers (not .Values.controller.tls.secret) }}
{{- fail "controller.tls.secret: in the form separate providers ask for a client certificate; name its Secret" }}
{{- end }}
{{- $names := list }}
{{- range $index, $entry := .Values.providers }}
{{- $provider := mergeOverwrite (deepCopy $.Values.providerDefaults) $entry }}
{{- $where := printf "providers[%d] (%s)" $index $entry.name }}
{{- if has $entry.name $names }}
{{- fail (printf "%s: two providers have this name" $where) }}
{{- end }}
{{- $names = append $names $entry.name }}
{{- range $provider.args }}
{{- if regexMatch "^--(listen|health-listen|metrics-listen|state-dir|log-level|tls-[a-z-]+|operators|delegates)(=|$)" . }}
{{- fail (printf "%s.args: %s is set by the chart; see bindAddress, metrics, logLevel, state, tls and operators" $where .) }}
{{- end }}
{{- end }}
{{- if and (not $sidecar) (not $provider.tls.secret) }}
{{- fail (printf "%s.tls.secret: in the form separate it is reached over the network; name the Secret of its certificate" $where) }}
{{- end }}
{{- if and $sidecar $provider.pod }}
{{- fail (printf "%s.pod: in the form sidecar all share one pod; set pod itself" $where) }}
{{- end }}
{{- end }}
{{- range $key := list "guestCredentials" "tlsSecrets" }}
{{- range index $.Values $key }}
{{- if and $.Values.watchNamespace (ne .namespace $.Values.watchNamespace) }}
{{- fail (printf "%s: only resources in %s are watched (watchNamespace), none in %s" $key $.Values.watchNamespace .namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
