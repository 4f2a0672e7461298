{{- define "harbinger.labels" -}}
app.kubernetes.io/name: harbinger
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "harbinger.selector" -}}
app.kubernetes.io/name: harbinger
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
