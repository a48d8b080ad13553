#!/usr/bin/env bash
# Start a part of the stack in a container, by its role, as deployments/stack.py does on one machine. Passwords and
# tokens come from the environment. A first word that is no role is a command: it runs as it is.
set -euo pipefail
ROLE=${TMPDIR:-/tmp}/lifecycle-role

database() {  # a URL: driver, name of the database
  echo "postgresql+$1://${PGUSER:?}:${PGPASSWORD:?}@${PGHOST:?}:${PGPORT:-5432}/$2"
}

answers() {  # whether a URL answers with a success
  python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null
}

listens() {  # whether a port of this container is open
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

role=${1:-head}
case $role in prefect | mlflow | s3 | head | node) echo "$role" > "$ROLE" ;; esac
case $role in
prefect)
  PREFECT_SERVER_API_AUTH_STRING=${PREFECT_API_AUTH_STRING:?} \
    PREFECT_API_DATABASE_CONNECTION_URL=$(database asyncpg prefect) \
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS=${PREFECT_SERVER_CORS_ALLOWED_ORIGINS:-http://127.0.0.1:4200} \
    PREFECT_SERVER_UI_API_URL=${PREFECT_SERVER_UI_API_URL:-/api} \
    PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem \
    PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER=PT20M \
    exec prefect server start --host 0.0.0.0 --port 4200
  ;;
mlflow)
  umask 077
  users=$(mktemp)
  name=${MLFLOW_DATABASE:-mlflow}
  cat > "$users" <<INI
[mlflow]
default_permission = READ
database_uri = $(database psycopg "${name}_users")
admin_username = ${MLFLOW_TRACKING_USERNAME:?}
admin_password = ${MLFLOW_TRACKING_PASSWORD:?}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
INI
  MLFLOW_AUTH_CONFIG_PATH=$users MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_FLASK_SERVER_SECRET_KEY=${MLFLOW_FLASK_SERVER_SECRET_KEY:?} \
    exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 1 --serve-artifacts \
    --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-mlflow:5000,127.0.0.1:*,localhost:*}" \
    --backend-store-uri "$(database psycopg "$name")" --artifacts-destination "${MLFLOW_ARTIFACTS:?}"
  ;;
s3)  # keeps its buckets in memory, and believes any key: for trials
  exec moto_server -H 0.0.0.0 -p 9000
  ;;
buckets)  # those that are named, unless they are there
  shift
  exec python -c '
import boto3, os, sys
client = boto3.client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for name in sys.argv[1:]:
    if name not in there:
        client.create_bucket(Bucket=name)
' "$@"
  ;;
head | node)
  : "${LIFECYCLE_ENV:?}" "${RAY_AUTH_TOKEN:?}"
  export RAY_AUTH_MODE=token
  front=$(lifecycle front-env)
  eval "$front"
  ulimit -n 65536 2>/dev/null || true
  common="--metrics-export-port 8080 --disable-usage-stats --block"
  if [ "$role" = node ]; then
    # KubeRay says how its nodes start; the variable is a command line
    eval "exec ${KUBERAY_GEN_RAY_START_CMD:-ray start --address ${RAY_HEAD:-}:6379 --num-cpus ${RAY_CPUS:-2} $common}"
  fi
  # Prometheus' key for the endpoint's /metrics; names are not used twice, and a kill may come before it is kept
  key=$LIFECYCLE_HOME/prometheus.key
  if [ ! -s "$key" ]; then
    umask 077
    mkdir -p "$LIFECYCLE_HOME"
    lifecycle keys add "prometheus-$(date +%s)" > "$key.new"
    mv "$key.new" "$key"
    umask 022
  fi
  # a flow that calls Ray must run on one of its nodes, and a release tries the endpoint where its front is: so the
  # worker is here. If either ends, both do, and the container is started again
  eval "${KUBERAY_GEN_RAY_START_CMD:-ray start --head --port 6379 --num-cpus ${RAY_CPUS:-0} --include-dashboard false $common} &"
  ray=$!
  prefect worker start --type process --pool "lifecycle-$LIFECYCLE_ENV" --with-healthcheck &
  worker=$!
  trap 'kill "$worker" "$ray" 2>/dev/null; wait; exit 143' TERM INT
  wait -n || true
  kill "$worker" "$ray" 2>/dev/null || true
  wait || true
  exit 1
  ;;
healthy)
  case $(cat "$ROLE" 2>/dev/null) in
  prefect) answers http://127.0.0.1:4200/api/health ;;
  mlflow) answers http://127.0.0.1:5000/health ;;
  s3) answers http://127.0.0.1:9000/moto-api/ ;;
  head) listens 6379 && answers http://127.0.0.1:8085/health ;;
  node) listens 8080 ;;
  *) exit 0 ;;  # a command of somebody's own
  esac
  ;;
*)
  exec "$@"
  ;;
esac
