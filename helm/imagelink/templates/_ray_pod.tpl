{{/* The pod of a group of Ray, given root, component, values (of the group), gpus, serves (whether
     clients reach it) and data (the volume for galleries and model bundles). */}}
{{- define "imagelink.rayPod" -}}
{{- $root := .root -}}
{{- $settings := $root.Values.settings -}}
metadata:
  labels:
    {{- include "imagelink.podLabels" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "imagelink.fullname" $root }}
  # Only the head talks to Kubernetes: its autoscaler does.
  automountServiceAccountToken: {{ eq .component "head" }}
  {{- with include "imagelink.pullSecrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "imagelink.podSecurity" $root | nindent 4 }}
  terminationGracePeriodSeconds: 90
  topologySpreadConstraints:
    {{- range tuple "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "imagelink.podLabels" $ | nindent 10 }}
    {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ ternary "ray-head" "ray-worker" (eq .component "head") }}
      image: {{ include "imagelink.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        {{- include "imagelink.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "imagelink.secrets" $root | nindent 8 }}
        {{- include "imagelink.rayEnvironment" $root | nindent 8 }}
      {{- with include "imagelink.blobCredentials" $root }}
      {{- . | nindent 6 }}
      {{- end }}
      ports:
        {{- if eq .component "head" }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: client, containerPort: 10001}
        {{- end }}
        {{- if .serves }}
        # KubeRay takes the ports of its Service for clients from here, named so, of the head alone.
        - {name: serve, containerPort: {{ $settings.http_port }}}
        - {name: serve-grpc, containerPort: {{ $settings.grpc_port }}}
        {{- end }}
        - {name: metrics, containerPort: 8080}
      startupProbe:
        {{- include "imagelink.rayHealth" $root | nindent 8 }}
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        {{- include "imagelink.rayHealth" $root | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- if eq .component "scanner" }}
        # The API itself, through this pod's proxy.
        grpc: {port: {{ $settings.grpc_port }}}
        {{- else }}
        {{- include "imagelink.rayHealth" $root | nindent 8 }}
        {{- end }}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      lifecycle:
        preStop:
          exec:
            # First nobody new comes, then what runs ends.
            command: [bash, -c, "sleep 20; ray stop --grace-period 40"]
      resources:
        {{- include "imagelink.resources" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: data, mountPath: /data}
        {{- with include "imagelink.blobMount" $root }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: data
      {{- toYaml .data | nindent 6 }}
    {{- with include "imagelink.blobVolume" $root }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Of Ray's agent on the node, which needs no token. */}}
{{- define "imagelink.rayHealth" -}}
httpGet: {path: /api/healthz, port: 52365}
{{- end -}}

{{- define "imagelink.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if .gpus -}}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" .gpus) (default dict $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* What Ray reads at its import: the same switches as of `python -m server`. */}}
{{- define "imagelink.rayEnvironment" -}}
- name: RAY_SERVE_ENABLE_HA_PROXY
  value: "1"
- name: RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
  value: "0"
- name: RAY_SERVE_GRPC_MAX_MESSAGE_SIZE
  value: "16777216"
- name: RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S
  value: "1"
- name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO
  value: "0"
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: RAY_worker_niceness
  value: "0"
{{- end -}}
