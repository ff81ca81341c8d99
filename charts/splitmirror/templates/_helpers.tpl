{{/* The chart's name, or what is said instead. */}}
{{- define "splitmirror.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The beginning of all names. Cut so that the longest suffix fits into a label. */}}
{{- define "splitmirror.fullname" -}}
{{- $name := include "splitmirror.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The driver's CSI name: fixed, for PersistentVolumes carry it. */}}
{{- define "splitmirror.driver" -}}
splitmirror.io
{{- end }}

{{- define "splitmirror.controllerName" -}}
{{ include "splitmirror.fullname" . }}-controller
{{- end }}

{{- define "splitmirror.nodeName" -}}
{{ include "splitmirror.fullname" . }}-node
{{- end }}

{{/* By which the pods are selected; never changed by values that may change. */}}
{{- define "splitmirror.selectorLabels" -}}
app.kubernetes.io/name: {{ include "splitmirror.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/*
Labels of an object. Call with: root, component (or nothing), labels (its own, or nothing). Nobody's labels replace those
by which things are found.
*/}}
{{- define "splitmirror.labels" -}}
{{- $own := include "splitmirror.selectorLabels" .root | fromYaml }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "app.kubernetes.io/part-of" .root.Chart.Name }}
{{- with .component }}
{{- $_ := set $own "app.kubernetes.io/component" . }}
{{- end }}
{{- merge $own (.labels | default dict) .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* Labels of a pod: without versions, so that only what changes a pod replaces it. Call with the same. */}}
{{- define "splitmirror.podLabels" -}}
{{- $own := include "splitmirror.selectorLabels" .root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" .component }}
{{- merge $own .labels .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* An image's name: by digest when there is one. Call with: image, tag (when the image has none). */}}
{{- define "splitmirror.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end }}
{{- end }}

{{/* The driver's image. */}}
{{- define "splitmirror.driverImage" -}}
{{- include "splitmirror.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* What is the same in all containers of a sidecar. Call with: root, of (its values), args (a list), env (a list or nothing). */}}
{{- define "splitmirror.sidecar" -}}
image: {{ include "splitmirror.image" (dict "image" .of.image) }}
imagePullPolicy: {{ .root.Values.imagePullPolicy }}
args:
  {{- concat .args .of.extraArgs | toYaml | nindent 2 }}
{{- with concat (.env | default list) .of.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .of.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The arguments that all sidecars with a leader share; they wait longer than the driver. Call with: root, port. */}}
{{- define "splitmirror.leaderArgs" -}}
- --csi-address=/csi/csi.sock
- --timeout={{ add .root.Values.controller.timeoutSeconds 10 }}s
- --leader-election
- --leader-election-namespace=$(NAMESPACE)
- --http-endpoint=:{{ .port }}
{{- end }}

{{/* Where those sidecars run. */}}
{{- define "splitmirror.placeEnv" -}}
- name: NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{/*
A sidecar that cannot renew its lease is restarted. It answers only once the driver is ready, which takes what the driver's own
start may take. Call with the port's name.
*/}}
{{- define "splitmirror.leaderProbe" -}}
startupProbe:
  httpGet:
    path: /healthz/leader-election
    port: {{ . }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 30
livenessProbe:
  httpGet:
    path: /healthz/leader-election
    port: {{ . }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 1
{{- end }}

{{/*
Probes of the driver. It has started and is ready when it answers on its CSI socket, which livenessprobe asks it on. Alive is
who says so of itself beside the metrics: its watches and its background work go on. Call with the number of tries, of
ten seconds each, that a start may take.
*/}}
{{- define "splitmirror.driverProbes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: healthz
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ . }}
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /healthz
    port: healthz
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}

{{/* The port of livenessprobe, and those beside the driver's metrics, in the order of their names. */}}
{{- define "splitmirror.ports" -}}
metrics: {{ .Values.metrics.port }}
provisioner: {{ add .Values.metrics.port 1 }}
registrar: {{ add .Values.metrics.port 1 }}
resizer: {{ add .Values.metrics.port 2 }}
snapshotter: {{ add .Values.metrics.port 3 }}
healthz: {{ add .Values.metrics.port 4 }}
blocks: {{ add .Values.metrics.port 5 }}
metadata: {{ add .Values.metrics.port 5 }}
{{- end }}

{{/* Where backups are told the blocks of snapshots. */}}
{{- define "splitmirror.snapshotMetadataName" -}}
{{ include "splitmirror.fullname" . }}-snapshot-metadata
{{- end }}

{{/* How services and pods are scraped: the node's name tells whose disks it is about. */}}
{{- define "splitmirror.relabelings" -}}
- sourceLabels: [__meta_kubernetes_pod_node_name]
  targetLabel: node
- sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component]
  targetLabel: component
{{- end }}
