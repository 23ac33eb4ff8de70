#!/bin/bash
# Starts the server; with each start the account of the exporter gets its password, so a database that is older than
# monitoring has it as well. It has no rights: the server's counters are open to every account.
set -euo pipefail
password=$(</run/secrets/database_exporter_password)
password=${password//\\/\\\\}
umask 077
{
    echo "SET SESSION sql_log_bin = 0;"
    printf "CREATE USER IF NOT EXISTS 'exporter'@'%%' WITH MAX_USER_CONNECTIONS 3;\n"
    printf "ALTER USER 'exporter'@'%%' IDENTIFIED BY '%s';\n" "${password//\'/\'\'}"
} >/tmp/accounts.sql
# The first start of all makes its accounts with the scripts of initialisation.
[ -e /var/lib/mysql/mysql.ibd ] && set -- --init-file=/tmp/accounts.sql
exec docker-entrypoint.sh mysqld "$@"
