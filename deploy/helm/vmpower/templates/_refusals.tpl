{{- /* What the schema cannot say, in sentences: each names the value, and what to write. */}}
{{- define "vmpower.refusals" -}}
{{- $sidecar := eq .Values.form "sidecar" }}
{{- if and $sidecar (gt (int .Values.controller.replicas) 1) }}
{{- fail "controller.replicas: in the form sidecar there is one pod, for each provider keeps one journal; set form: separate to have more controllers" }}
{{- end }}
{{- if and (not (kindIs "invalid" .Values.controller.replicas)) (eq (int .Values.controller.replicas) 0) }}
{{- fail "controller.replicas: no controller acts on nothing; leave it null, or write how many there are" }}
{{- end }}
{{- if and $sidecar .Values.certManager.enabled }}
{{- fail "certManager.enabled: in the form sidecar there are unix sockets, and no TLS; set form: separate" }}
{{- end }}
{{- if and (not $sidecar) .Values.providers (not (include "vmpower.controller.tlsSecret" .)) }}
{{- fail "controller.tls.secret: in the form separate providers ask for a client certificate; name its Secret, or set certManager.enabled" }}
{{- end }}
{{- if and .Values.controller.selfLast .Values.watchNamespace (ne .Values.watchNamespace .Release.Namespace) }}
{{- fail (printf "controller.selfLast: it is for plans of the release's namespace, %s, and only resources in %s are watched (watchNamespace); leave one of the two out" .Release.Namespace .Values.watchNamespace) }}
{{- end }}
{{- include "vmpower.refusals.idle" . }}
{{- include "vmpower.refusals.durations" . }}
{{- if and .Values.certManager.issuerRef (not .Values.certManager.issuerRef.name) }}
{{- fail "certManager.issuerRef: it names no issuer; write certManager.issuerRef.name, or leave it empty for a CA of the release's own" }}
{{- end }}
{{- include "vmpower.refusals.labels" (dict "at" "pod" "pod" .Values.pod) }}
{{- if and .Release.IsInstall .Values.checkCRDs }}
{{- range list "virtualmachines" "providers" "powerplans" "powerruns" }}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (printf "%s.%s" . $.Values.apiGroup) }}
{{- if and $crd (not (has "vmpower" ($crd.spec.names.categories | default list))) }}
{{- fail (printf "the CRD %s.%s of this cluster is another controller's, and is left as it is: to run vmpower beside it, set apiGroup: infra.vmpower (docs/kubernetes.md, Beside another controller)" . $.Values.apiGroup) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $key := list "name" "type" }}
{{- if hasKey $.Values.providerDefaults $key }}
{{- fail (printf "providerDefaults.%s: each entry of providers has its own; write it there" $key) }}
{{- end }}
{{- end }}
{{- $names := list }}
{{- $claims := list }}
{{- range $index, $entry := .Values.providers }}
{{- $where := printf "providers[%d] (%s)" $index $entry.name }}
{{- if has $entry.name $names }}
{{- fail (printf "%s: two providers have this name" $where) }}
{{- end }}
{{- $names = append $names $entry.name }}
{{- $state := mergeOverwrite (deepCopy $.Values.providerDefaults.state) ($entry.state | default dict) }}
{{- if not $state.ephemeral }}
{{- $claim := $state.existingClaim | default (printf "%s-%s" (include "vmpower.fullname" $) $entry.name) }}
{{- if has $claim $claims }}
{{- fail (printf "%s.state.existingClaim: the journal of another provider is in %s; each needs a claim of its own" $where $claim) }}
{{- end }}
{{- $claims = append $claims $claim }}
{{- end }}
{{- include "vmpower.refusals.provider" (dict "root" $ "where" $where "entry" $entry) }}
{{- end }}
{{- range $key := list "guestCredentials" "tlsSecrets" "upsSecrets" }}
{{- range index $.Values $key }}
{{- if and $.Values.watchNamespace (ne .namespace $.Values.watchNamespace) }}
{{- fail (printf "%s: only resources in %s are watched (watchNamespace), none in %s" $key $.Values.watchNamespace .namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What does nothing because something else is not switched on. */}}
{{- define "vmpower.refusals.idle" -}}
{{- range list
  (list "metrics.podMonitor.enabled" .Values.metrics.podMonitor.enabled "metrics.enabled" .Values.metrics.enabled)
  (list "metrics.rules.enabled" .Values.metrics.rules.enabled "metrics.enabled" .Values.metrics.enabled)
  (list "metrics.dashboard.enabled" .Values.metrics.dashboard.enabled "metrics.enabled" .Values.metrics.enabled)
  (list "metrics.from" .Values.metrics.from "metrics.enabled" .Values.metrics.enabled)
  (list "metrics.podMonitor.interval" .Values.metrics.podMonitor.interval "metrics.podMonitor.enabled" .Values.metrics.podMonitor.enabled)
  (list "metrics.podMonitor.labels" .Values.metrics.podMonitor.labels "metrics.podMonitor.enabled" .Values.metrics.podMonitor.enabled)
  (list "metrics.rules.labels" .Values.metrics.rules.labels "metrics.rules.enabled" .Values.metrics.rules.enabled)
  (list "metrics.dashboard.annotations" .Values.metrics.dashboard.annotations "metrics.dashboard.enabled" .Values.metrics.dashboard.enabled)
  (list "certManager.issuerRef" .Values.certManager.issuerRef "certManager.enabled" .Values.certManager.enabled)
  (list "serviceAccount.annotations" .Values.serviceAccount.annotations "serviceAccount.create" .Values.serviceAccount.create)
}}
{{- if and (index . 1) (not (index . 3)) }}
{{- fail (printf "%s: it does nothing without %s; set that to true, or leave this out" (index . 0) (index . 2)) }}
{{- end }}
{{- end }}
{{- if not (or .Values.crds.keep .Values.crds.install) }}
{{- fail "crds.keep: false does nothing without crds.install, for Helm itself never deletes CRDs; set that to true, or leave this out" }}
{{- end }}
{{- end }}

{{- define "vmpower.seconds" -}}
{{- $zero := toDate "2006-01-02" "2000-01-01" }}
{{- sub (dateModify . $zero | unixEpoch | int64) (unixEpoch $zero | int64) }}
{{- end }}

{{- /* Bounds of cert-manager's API, and of the controller. */}}
{{- define "vmpower.refusals.durations" -}}
{{- range list
  (list "certManager.duration" .Values.certManager.duration "1h" "")
  (list "certManager.renewBefore" .Values.certManager.renewBefore "5m" "")
  (list "controller.leaseDuration" .Values.controller.leaseDuration "4s" "5m")
}}
{{- $path := index . 0 }}
{{- $seconds := include "vmpower.seconds" (index . 1) | int64 }}
{{- if lt $seconds (include "vmpower.seconds" (index . 2) | int64) }}
{{- fail (printf "%s: %s is less than %s, the shortest that is allowed" $path (index . 1) (index . 2)) }}
{{- end }}
{{- if and (index . 3) (gt $seconds (include "vmpower.seconds" (index . 3 | default "0s") | int64)) }}
{{- fail (printf "%s: %s is more than %s, the longest that is allowed" $path (index . 1) (index . 3)) }}
{{- end }}
{{- end }}
{{- with .Values.certManager }}
{{- if ge (include "vmpower.seconds" .renewBefore | int64) (include "vmpower.seconds" .duration | int64) }}
{{- fail (printf "certManager.renewBefore: %s is not less than certManager.duration, %s; write a third of that" .renewBefore .duration) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Labels by which our pods are found: {at, pod}. */}}
{{- define "vmpower.refusals.labels" -}}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" }}
{{- if hasKey ($.pod.labels | default dict) . }}
{{- fail (printf "%s.labels: %s is set by the chart; leave it out" $.at .) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Of one provider: {root, where, entry}. */}}
{{- define "vmpower.refusals.provider" -}}
{{- $root := .root }}
{{- $where := .where }}
{{- $entry := .entry }}
{{- $provider := mergeOverwrite (deepCopy .root.Values.providerDefaults) .entry }}
{{- $sidecar := eq $root.Values.form "sidecar" }}
{{- if has $entry.name (list "controller" "test") }}
{{- fail (printf "%s.name: the chart itself uses this name; choose another" $where) }}
{{- end }}
{{- $socket := "in the form sidecar there is a unix socket, and no TLS; leave it out, or set form: separate" }}
{{- range list
  (list $sidecar "tls.secret" $provider.tls.secret $socket)
  (list $sidecar "tls.crlConfigMap" $provider.tls.crlConfigMap $socket)
  (list $sidecar "tls.maxConnectionAge" $provider.tls.maxConnectionAge $socket)
  (list $sidecar "operators" $provider.operators "in the form sidecar there are no certificates; see operatorUids, or set form: separate")
  (list $sidecar "pod" $provider.pod "in the form sidecar all share one pod; set pod itself")
  (list (not $sidecar) "operatorUids" $provider.operatorUids "in the form separate certificates say who may change power; see operators")
  (list $provider.state.ephemeral "state.existingClaim" $provider.state.existingClaim "it does nothing with state.ephemeral; leave one of them out")
}}
{{- if and (index . 0) (index . 2) }}
{{- $own := $entry }}
{{- range splitList "." (index . 1) }}
{{- $own = get ($own | default dict) . }}
{{- end }}
{{- fail (printf "%s.%s: %s" (empty $own | ternary "providerDefaults" $where) (index . 1) (index . 3)) }}
{{- end }}
{{- end }}
{{- if or $provider.state.ephemeral $provider.state.existingClaim }}
{{- range list "size" "storageClass" "accessModes" }}
{{- if get ($entry.state | default dict) . }}
{{- fail (printf "%s.state.%s: it does nothing without a claim of the release's own; leave it out" $where .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (not $sidecar) (not $provider.tls.secret) (not $root.Values.certManager.enabled) }}
{{- fail (printf "%s.tls.secret: in the form separate it is reached over the network; name the Secret of its certificate, or set certManager.enabled" $where) }}
{{- end }}
{{- if and $provider.operatorUids (kindIs "invalid" $root.Values.pod.runAsUser) }}
{{- fail (printf "%s.operatorUids: the controller's user must be known; set pod.runAsUser" $where) }}
{{- end }}
{{- include "vmpower.refusals.labels" (dict "at" (printf "%s.pod" $where) "pod" $provider.pod) }}
{{- include "vmpower.refusals.settings" (dict "where" $where "provider" $provider) }}
{{- end }}

{{- /* A setting that is written where another one counts: {where, provider}. */}}
{{- define "vmpower.refusals.settings" -}}
{{- $where := .where }}
{{- $ours := "^--(listen|health-listen|metrics-listen|state-dir|log-level|tls-[a-z-]+|max-connection-age|operators|operator-uids|delegates)$" }}
{{- if .provider.credentialsSecret }}
{{- $ours = printf "%s|^--credentials-dir$" $ours }}
{{- end }}
{{- $see := "is set by the chart; see bindAddress, metrics, logLevel, state, tls, operators, operatorUids and credentialsSecret" }}
{{- $flags := list }}
{{- range .provider.args }}
{{- $flags = append $flags (splitList "=" . | first) }}
{{- if regexMatch $ours (last $flags) }}
{{- fail (printf "%s.args: %s %s" $where . $see) }}
{{- end }}
{{- end }}
{{- range .provider.env }}
{{- $name := toString .name }}
{{- $flag := trimPrefix "VMPOWER_" $name | lower | replace "_" "-" | printf "--%s" }}
{{- if hasPrefix "VMPOWER_" $name }}
{{- if regexMatch $ours $flag }}
{{- fail (printf "%s.env: %s %s" $where $name $see) }}
{{- end }}
{{- if has $flag $flags }}
{{- fail (printf "%s.env: %s does nothing beside %s in args; write one of them" $where $name $flag) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
