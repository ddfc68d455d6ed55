{{/* What follows the expression of every alert. */}}
{{- define "headrace.alertRest" -}}
for: {{ .alert.for }}
labels:
  severity: {{ .alert.severity }}
annotations:
  summary: {{ .summary | quote }}
  description: {{ .description | quote }}
  {{- if .url }}
  runbook_url: {{ printf "%s#%s" .url (lower .name) }}
  {{- else }}
  runbook: {{ printf "docs/alerts.md#%s" (lower .name) }}
  {{- end }}
{{- end }}

{{- define "headrace.alerts" -}}
{{- $url := .Values.metrics.prometheusRule.runbookUrl }}
{{- with .Values.metrics.prometheusRule.alerts }}
{{- with .iteratorAgeGrowing }}
{{- if .enabled }}
- alert: HeadraceIteratorAgeGrowing
  expr: |-
    max by (namespace, mapping, source, shard) (headrace_iterator_age_seconds) > {{ .thresholdSeconds }}
    and
    max by (namespace, mapping, source, shard) (deriv(headrace_iterator_age_seconds[10m])) > 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceIteratorAgeGrowing"
    "summary" "A shard's oldest undecided record gets older and older"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}, shard {{ $labels.shard }}: the oldest undecided record is {{ $value | humanizeDuration }} old, and its age grows.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .timeToDataLoss }}
{{- if .enabled }}
- alert: HeadraceTimeToDataLoss
  expr: |-
    max by (namespace, mapping, source) (headrace_source_retention_seconds)
    - on (namespace, mapping, source) group_right ()
    max by (namespace, mapping, source, shard) (headrace_iterator_age_seconds) < {{ .thresholdSeconds }}
    and
    max by (namespace, mapping, source, shard) (headrace_iterator_age_seconds)
    > on (namespace, mapping, source) group_left ()
    ({{ .retentionShare }} * max by (namespace, mapping, source) (headrace_source_retention_seconds))
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceTimeToDataLoss"
    "summary" "A stream will soon delete records that are not processed"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}, shard {{ $labels.shard }}: {{ $value | humanizeDuration }} are left until the stream deletes the oldest undecided record.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .shardBlocked }}
{{- if .enabled }}
- alert: HeadraceShardBlocked
  expr: |-
    max by (namespace, mapping, source, shard) (headrace_shard_blocked) > 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceShardBlocked"
    "summary" "A shard does not get ahead"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}, shard {{ $labels.shard }}: its first batch is put off again and again; the mapping's condition Ready says why.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .oldestMessageAgeGrowing }}
{{- if .enabled }}
- alert: HeadraceOldestMessageAgeGrowing
  expr: |-
    max by (namespace, mapping, source) (headrace_queue_oldest_message_age_seconds) > {{ .thresholdSeconds }}
    and
    max by (namespace, mapping, source) (deriv(headrace_queue_oldest_message_age_seconds[10m])) > 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceOldestMessageAgeGrowing"
    "summary" "A queue's oldest message gets older and older"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: the oldest message is {{ $value | humanizeDuration }} old, and its age grows.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .queueThrottled }}
{{- if .enabled }}
- alert: HeadraceQueueThrottled
  expr: |-
    sum by (namespace, mapping, source) (increase(headrace_throttles_total[{{ .window }}]) + increase(headrace_unreachable_calls_total[{{ .window }}])) > {{ .threshold }}
    and on (namespace, mapping, source)
    max by (namespace, mapping, source) (headrace_queue_backlog_messages) > 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceQueueThrottled"
    "summary" "A function does not take the messages of a queue"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: about {{ $value | humanize }} calls were throttled or did not reach the function, and messages wait in the queue.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .shardUnowned }}
{{- if .enabled }}
- alert: HeadraceShardUnowned
  expr: |-
    max by (namespace, mapping, shard) (headrace_shard_unowned) > 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceShardUnowned"
    "summary" "A shard is read by nobody"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}, shard {{ $labels.shard }}: it could be read, and no living poller holds it; see the mapping's condition ShardsAssigned.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .noPollerAlive }}
{{- if .enabled }}
- alert: HeadraceNoPollerAlive
  expr: |-
    max by (namespace, mapping) (headrace_pollers) == 0
    and
    max by (namespace, mapping) (headrace_mapping_enabled) == 1
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceNoPollerAlive"
    "summary" "A mapping has no poller"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: no poller is alive, so nothing of its source is read.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .unreachable }}
{{- if .enabled }}
- alert: HeadraceUnreachable
  expr: |-
    min by (namespace, mapping, source, type) (headrace_condition{type=~"SourceReachable|CheckpointsReachable"}) == 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceUnreachable"
    "summary" "A source or its checkpoints cannot be reached"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: a poller says that {{ $labels.type }} does not hold, so that records wait or come again after a crash; the condition says why.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .destinationFailing }}
{{- if .enabled }}
- alert: HeadraceDestinationFailing
  expr: |-
    min by (namespace, mapping, source) (headrace_condition{type="DestinationReachable"}) == 0
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceDestinationFailing"
    "summary" "Failure records cannot be delivered"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: the destination takes no failure records; with deliveryPolicy Block shards wait for it, with Drop records are lost.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .recordsDropped }}
{{- if .enabled }}
- alert: HeadraceRecordsDropped
  expr: |-
    sum by (namespace, mapping, source) (increase(headrace_dropped_events_total[{{ .window }}])) > {{ .threshold }}
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceRecordsDropped"
    "summary" "Records were dropped"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: about {{ $value | humanize }} records were given up without a delivered failure record.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .recordsDiscarded }}
{{- if .enabled }}
- alert: HeadraceRecordsDiscarded
  expr: |-
    sum by (namespace, mapping, source) (increase(headrace_on_failure_destination_delivered_events_total[{{ .window }}])) > {{ .threshold }}
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceRecordsDiscarded"
    "summary" "Records went to the failure destination"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: about {{ $value | humanize }} records were given up; their failure records are at the destination.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .recordsTrimmed }}
{{- if .enabled }}
- alert: HeadraceRecordsTrimmed
  expr: |-
    sum by (namespace, mapping, source) (increase(headrace_trimmed_gaps_total[{{ .window }}])) > {{ .threshold }}
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceRecordsTrimmed"
    "summary" "The stream may have deleted records unread"
    "description" `{{ $labels.namespace }}/{{ $labels.mapping }}: retention overtook a checkpoint; log and Events say between which sequence numbers.`) | nindent 2 }}
{{- end }}
{{- end }}
{{- with .operatorDown }}
{{- if .enabled }}
- alert: HeadraceOperatorDown
  expr: |-
    (sum(headrace_operator_leader{namespace="{{ $.Release.Namespace }}"}) or vector(0)) < 1
  {{- include "headrace.alertRest" (dict "alert" . "url" $url "name" "HeadraceOperatorDown"
    "summary" "No operator leads"
    "description" (printf "No operator in namespace %s leads: pollers go on, but new mappings are not taken up, and the number of pollers does not follow the shards." $.Release.Namespace)) | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
