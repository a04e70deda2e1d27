{{/* KubeRay appends to the name of a RayService, and takes 41 characters at most. */}}
{{- define "imagelink.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 41 | trimSuffix "-" -}}
{{- end -}}

{{- define "imagelink.labels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Labels of pods, and their selectors. KubeRay puts its own app.kubernetes.io/name on the pods
     of Ray, so nothing selects by that. */}}
{{- define "imagelink.podLabels" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: imagelink
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "imagelink.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "imagelink.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "imagelink.databaseName" -}}
{{ include "imagelink.fullname" . }}-database
{{- end -}}

{{/* A whole number as such: Helm has all numbers as floats, which it writes like 1e+06. */}}
{{- define "imagelink.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "imagelink.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "imagelink.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Secrets and credentials by reference, for every container that runs the image. */}}
{{- define "imagelink.secrets" -}}
- name: HOME
  value: /tmp
- name: IMAGELINK_DATABASE_URL
  valueFrom:
    secretKeyRef:
{{- if .Values.cloudNativePG.enabled }}
      name: {{ include "imagelink.databaseName" . }}-app
      key: uri
{{- else }}
      name: {{ .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- end }}
- name: IMAGELINK_OPERATOR_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.operatorKey.existingSecret }}
      key: {{ .Values.operatorKey.key }}
{{- end -}}

{{- define "imagelink.blobCredentials" -}}
{{- with .Values.blobs.existingSecret -}}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end -}}

{{- define "imagelink.blobMount" -}}
{{- if .Values.blobs.existingClaim -}}
- name: blobs
  mountPath: {{ .Values.settings.blob_url | trimPrefix "file://" }}
{{- end }}
{{- end -}}

{{- define "imagelink.blobVolume" -}}
{{- with .Values.blobs.existingClaim -}}
- name: blobs
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- end -}}

{{/* What the schema cannot say, as it is about more than one value. */}}
{{- define "imagelink.check" -}}
{{- with .Values -}}
{{- if lt (int .scanner.maxReplicas) (int .settings.scanners) -}}
{{- fail (printf "scanner.maxReplicas (%v) is below settings.scanners (%v), the fewest that run." .scanner.maxReplicas .settings.scanners) -}}
{{- end -}}
{{- if and (hasPrefix "file://" .settings.blob_url) (not .blobs.existingClaim) -}}
{{- fail "settings.blob_url is a folder: name a ReadWriteMany claim in blobs.existingClaim that is mounted there, or use an object store." -}}
{{- end -}}
{{- if and .blobs.existingClaim (not (hasPrefix "file:///" .settings.blob_url)) -}}
{{- fail "blobs.existingClaim is set and settings.blob_url names no folder to mount it at: for example file:///blobs." -}}
{{- end -}}
{{- if and .gateway.enabled (not .gateway.hostnames) -}}
{{- fail "gateway.enabled needs gateway.hostnames, the names that clients call." -}}
{{- end -}}
{{- if and .gateway.create (not (and .gateway.className .gateway.tlsSecret)) -}}
{{- fail "gateway.create needs gateway.className and gateway.tlsSecret: the API is never offered without TLS." -}}
{{- end -}}
{{- if and .backup.enabled (not .backup.url) -}}
{{- fail "backup.enabled needs backup.url, where the backups go: s3://… or file:///backup." -}}
{{- end -}}
{{- if and .backup.enabled (ne (hasPrefix "file:///backup" .backup.url) (ne .backup.existingClaim "")) -}}
{{- fail "backup.url file:///backup and backup.existingClaim, the claim that is mounted there, need each other." -}}
{{- end -}}
{{- if and .training.enabled (not .training.existingClaim) -}}
{{- fail "training.enabled needs training.existingClaim, the volume with the pictures, and for the runs." -}}
{{- end -}}
{{- end -}}
{{- end -}}
