#!/bin/sh
# Creates the namespace and the search attributes Holdfast needs on a running cluster. Safe to run again.
# The attributes are those of workflows/search_attributes.py; a test holds the two together.
#
#   TEMPORAL_ADDRESS    host:port of the frontend; TLS and keys as for Temporal's command line
#   HOLDFAST_NAMESPACE  default: holdfast
#   HOLDFAST_RETENTION  how long closed sessions stay in the server, default: 720h
set -eu

namespace=${HOLDFAST_NAMESPACE:-holdfast}
retention=${HOLDFAST_RETENTION:-720h}

attempts=60
until temporal operator cluster health >/dev/null 2>&1; do
    attempts=$((attempts - 1))
    if [ "$attempts" -eq 0 ]; then
        echo "no healthy server at ${TEMPORAL_ADDRESS:-127.0.0.1:7233}" >&2
        exit 1
    fi
    sleep 2
done

if ! temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1; then
    temporal operator namespace create --namespace "$namespace" --retention "$retention"
    # A new namespace is known to every part of the server only after a moment.
    until temporal operator search-attribute list --namespace "$namespace" >/dev/null 2>&1; do
        sleep 1
    done
fi

# One name per call: given several, the server keeps the first only.
attribute() {
    temporal operator search-attribute create --namespace "$namespace" --name "$1" --type "$2"
}

attribute HoldfastJob Keyword
attribute HoldfastMachine Keyword
attribute HoldfastKind Keyword
attribute HoldfastResult Keyword
attribute HoldfastRepository Keyword
attribute HoldfastErrorCode Keyword
attribute HoldfastStoredBytes Int
