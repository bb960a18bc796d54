#!/bin/sh
# Six servers on consecutive ports from $1, formed into a cluster of three primaries with a replica each.
# HOST is the address to listen on, PASSWORD what clients must say, CERTIFICATES a folder as trustme writes it, for TLS.
# READY is a file that is there once the cluster is whole.
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
# The servers are in the background; the container lives as long as this.
trap 'exit 0' INT TERM
while true; do sleep 3600 & wait $!; done
