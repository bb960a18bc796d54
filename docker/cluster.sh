#!/bin/sh
# Starts six servers on the ports from $1 on, and forms a cluster of three primaries with one replica each.
# Variables:
#   HOST          the address to listen on
#   PASSWORD      the password that clients need
#   CERTIFICATES  a folder with the files that "python -m trustme" writes; with it, the servers use TLS
#   READY         a file that is created when the cluster is up
set -eu
ready=${READY:-/tmp/ready}
rm -f "$ready"
first=$1
host=${HOST:-127.0.0.1}
last=$((first + 5))
client=""
nodes=""
if [ -n "${PASSWORD:-}" ]; then
    client="$client -a $PASSWORD --no-auth-warning"
fi
if [ -n "${CERTIFICATES:-}" ]; then
    client="$client --tls --cacert $CERTIFICATES/client.pem"
fi
for port in $(seq "$first" "$last"); do
    folder=$(mktemp -d)
    set -- --bind "$host" --dir "$folder" --daemonize yes --save "" \
        --cluster-enabled yes --cluster-node-timeout 2000 --cluster-announce-ip "$host"
    if [ -n "${PASSWORD:-}" ]; then
        set -- "$@" --requirepass "$PASSWORD" --primaryauth "$PASSWORD"
    fi
    if [ -n "${CERTIFICATES:-}" ]; then
        set -- "$@" --port 0 --tls-port "$port" --tls-cluster yes --tls-replication yes --tls-auth-clients optional \
            --tls-cert-file "$CERTIFICATES/server.pem" --tls-key-file "$CERTIFICATES/server.key" \
            --tls-ca-cert-file "$CERTIFICATES/client.pem"
    else
        set -- "$@" --port "$port"
    fi
    valkey-server "$@"
    nodes="$nodes $host:$port"
done
for port in $(seq "$first" "$last"); do
    # shellcheck disable=SC2086
    until valkey-cli -h "$host" -p "$port" $client ping >/dev/null 2>&1; do sleep 0.1; done
done
# shellcheck disable=SC2086
valkey-cli $client --cluster create $nodes --cluster-replicas 1 --cluster-yes
for port in $(seq "$first" "$last"); do
    # shellcheck disable=SC2086
    until valkey-cli -h "$host" -p "$port" $client cluster info | grep -q cluster_state:ok; do sleep 0.1; done
done
touch "$ready"
echo "cluster ready on ports $first to $last"
# The servers run in the background.  This loop keeps the container alive.
trap 'exit 0' INT TERM
while true; do sleep 3600 & wait $!; done
