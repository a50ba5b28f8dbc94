{{- /* What the schema cannot say, in sentences. */}}
{{- define "vmpower.refusals" -}}
{{- $sidecar := eq .Values.form "sidecar" }}
{{- if and $sidecar (gt (int .Values.controller.replicas) 1) }}
{{- fail "controller.replicas: in the form sidecar there is one pod, for each provider keeps one journal; set form: separate to have more controllers" }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.podMonitor.enabled: there is nothing to scrape; set metrics.enabled too" }}
{{- end }}
{{- if and $sidecar .Values.certManager.enabled }}
{{- fail "certManager.enabled: in the form sidecar there are unix sockets, and no TLS; set form: separate" }}
{{- end }}
{{- if and (not $sidecar) .Values.providers (not (include "vmpower.controller.tlsSecret" .)) }}
{{- fail "controller.tls.secret: in the form separate providers ask for a client certificate; name its Secret, or set certManager.enabled" }}
{{- end }}
{{- if and .Release.IsInstall .Values.checkCRDs }}
{{- range list "virtualmachines" "providers" }}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (printf "%s.%s" . $.Values.apiGroup) }}
{{- if and $crd (not (has "vmpower" ($crd.spec.names.categories | default list))) }}
{{- fail (printf "the CRD %s.%s of this cluster is another controller's, and is left as it is: to run vmpower beside it, set apiGroup: infra.vmpower (docs/kubernetes.md, Beside another controller)" . $.Values.apiGroup) }}
{{- end }}
{{- end }}
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
{{- if regexMatch "^--(listen|health-listen|metrics-listen|state-dir|log-level|tls-[a-z-]+|max-connection-age|operators|operator-uids|delegates)(=|$)" . }}
{{- fail (printf "%s.args: %s is set by the chart; see bindAddress, metrics, logLevel, state, tls, operators and operatorUids" $where .) }}
{{- end }}
{{- end }}
{{- if and (not $sidecar) (not $provider.tls.secret) (not $.Values.certManager.enabled) }}
{{- fail (printf "%s.tls.secret: in the form separate it is reached over the network; name the Secret of its certificate, or set certManager.enabled" $where) }}
{{- end }}
{{- if and $sidecar (or $provider.tls.crlConfigMap $provider.tls.maxConnectionAge) }}
{{- fail (printf "%s.tls: in the form sidecar there is a unix socket, and no TLS" $where) }}
{{- end }}
{{- if and (not $sidecar) $provider.operatorUids }}
{{- fail (printf "%s.operatorUids: in the form separate certificates say who may change power; see operators" $where) }}
{{- end }}
{{- if and $provider.operatorUids (kindIs "invalid" $.Values.pod.runAsUser) }}
{{- fail (printf "%s.operatorUids: the controller's user must be known; set pod.runAsUser" $where) }}
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
