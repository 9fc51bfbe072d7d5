{{- define "palimpsest.labels" -}}
app.kubernetes.io/name: palimpsest
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "palimpsest.selector" -}}
app.kubernetes.io/name: palimpsest
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "palimpsest.kind" -}}
{{ if .Values.state.persistent }}StatefulSet{{ else }}Deployment{{ end }}
{{- end }}

{{- define "palimpsest.secret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" .Release.Name) }}
{{- end }}

{{- define "palimpsest.policies" -}}
{{- $named := list -}}
{{- if .Values.policies.shipped }}{{ $named = append $named "shipped" }}{{ end -}}
{{- if .Values.policies.files }}{{ $named = append $named "/etc/palimpsest/policies" }}{{ end -}}
{{- if not $named }}{{ fail "policies.shipped is false and policies.files is empty: nothing but the floor would be in force" }}{{ end -}}
{{ join "," $named }}
{{- end }}
