{{/* Settings that go as arguments: all but the secrets, which the pods' environment has. */}}
{{- define "imagelink.settings" -}}
data_dir: /data
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ include "imagelink.scalar" $value }}
{{- end }}
{{- end -}}

{{/* A scanner needs one `scanner`, which only the scanners' pods have, and a shard one CPU, which only
     the shards' pods have: so each finds its pods, those of `imagelink shard add` too. */}}
{{- define "imagelink.serveConfig" -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: {{ .Values.settings.http_port }}
grpc_options:
  port: {{ .Values.settings.grpc_port }}
  grpc_servicer_functions:
    - imagelink.v1.recognition_pb2_grpc.add_RecognitionServicer_to_server
    - imagelink.v1.gallery_pb2_grpc.add_GalleryServicer_to_server
    - imagelink.v1.publisher_pb2_grpc.add_PublishersServicer_to_server
    - imagelink.v1.placement_pb2_grpc.add_ShardsServicer_to_server
    - imagelink.v1.model_pb2_grpc.add_ModelsServicer_to_server
    - grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server
applications:
  - name: imagelink
    route_prefix: /
    import_path: server.cluster:scanner
    args:
      {{- include "imagelink.settings" . | nindent 6 }}
    deployments:
      - name: Scanner
        autoscaling_config:
          min_replicas: {{ .Values.settings.scanners }}
          max_replicas: {{ .Values.scanner.maxReplicas }}
          target_ongoing_requests: {{ .Values.scanner.targetOngoingRequests }}
          upscale_delay_s: {{ .Values.scanner.upscaleDelaySeconds }}
          downscale_delay_s: {{ .Values.scanner.downscaleDelaySeconds }}
        ray_actor_options:
          num_cpus: 0
          {{- if .Values.scanner.gpus }}
          num_gpus: {{ divf .Values.scanner.gpus .Values.scanner.perPod }}
          {{- end }}
          resources: {scanner: 1}
  {{- range $number := until (int .Values.settings.shards) }}
  - name: shard-{{ $number }}
    route_prefix: null
    import_path: server.cluster:shard
    args:
      {{- include "imagelink.settings" $ | nindent 6 }}
    deployments:
      - name: GalleryShard
        max_replicas_per_node: 1
        ray_actor_options: {num_cpus: 1}
  {{- end }}
{{- end -}}
