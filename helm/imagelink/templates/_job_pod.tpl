{{/* The pod of a job, given root, component, command, args, values and gpus, and a claim or "",
     which is mounted at /COMPONENT. */}}
{{- define "imagelink.jobPod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "imagelink.podLabels" . | nindent 4 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ .serviceAccount }}
  automountServiceAccountToken: false
  {{- with include "imagelink.pullSecrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "imagelink.podSecurity" $root | nindent 4 }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "imagelink.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command:
        {{- toYaml .command | nindent 8 }}
      {{- with .args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "imagelink.containerSecurity" $root | nindent 8 }}
      env:
        {{- toYaml .env | nindent 8 }}
      {{- with ternary (include "imagelink.blobCredentials" $root) "" .blobs }}
      {{- . | nindent 6 }}
      {{- end }}
      resources:
        {{- include "imagelink.resources" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: data, mountPath: /data}
        {{- with ternary (include "imagelink.blobMount" $root) "" .blobs }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if .claim }}
        - {name: {{ .component }}, mountPath: /{{ .component }}}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: data
      emptyDir: {}
    {{- with ternary (include "imagelink.blobVolume" $root) "" .blobs }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .claim }}
    - name: {{ $.component }}
      persistentVolumeClaim: {claimName: {{ . }}}
    {{- end }}
{{- end -}}
