{{/*
Metadata of a role of one function, and of its binding. Call with: root, component, function, namespaced (or nothing).
*/}}
{{- define "splitmirror.roleMetadata" -}}
metadata:
  name: {{ include "splitmirror.fullname" .root }}-{{ .function }}
  {{- if .namespaced }}
  namespace: {{ .root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "splitmirror.labels" (dict "root" .root "component" .component) | nindent 4 }}
{{- end }}

{{/* Binds such a role to the service account of its component. Call with the same. */}}
{{- define "splitmirror.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespaced }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
{{ include "splitmirror.roleMetadata" . }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ if .namespaced }}Role{{ else }}ClusterRole{{ end }}
  name: {{ include "splitmirror.fullname" .root }}-{{ .function }}
subjects:
  - kind: ServiceAccount
    name: {{ include "splitmirror.fullname" .root }}-{{ .component }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* What a leader needs of leases. Call with the lease's name: only the making of one cannot be restricted to a name. */}}
{{- define "splitmirror.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ . }}]
  verbs: [get, update]
{{- end }}
