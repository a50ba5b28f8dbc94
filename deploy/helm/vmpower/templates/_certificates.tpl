{{- /* What all certificates of programs have: {root, issuer}. */}}
{{- define "vmpower.certificate" -}}
duration: {{ .root.Values.certManager.duration }}
renewBefore: {{ .root.Values.certManager.renewBefore }}
privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
issuerRef:
  {{- toYaml .issuer | nindent 2 }}
{{- end }}
