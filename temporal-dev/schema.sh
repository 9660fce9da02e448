#!/bin/sh
# Creates Temporal's two databases on PostgreSQL and brings their schema up to date. Safe to run again.
# Needs temporal-sql-tool of the admin-tools image and the variable SQL_PASSWORD.
set -eu

schema=/etc/temporal/schema/postgresql/v12

prepare() {
    database=$1
    versions=$2
    tool="temporal-sql-tool --plugin postgres12 --ep ${POSTGRES_HOST:-database} -p 5432 -u temporal --db $database"
    # Both leave alone what is there: a database that exists, a schema newer than 0.0.
    $tool create
    $tool setup-schema -v 0.0
    $tool update-schema -d "$schema/$versions/versioned"
}

prepare temporal temporal
prepare temporal_visibility visibility
