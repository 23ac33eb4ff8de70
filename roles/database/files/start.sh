#!/bin/bash
# Starts the server; with each start its accounts get the passwords of the secrets, so that a database that comes from a
# backup, or is older than monitoring, has them as well. The exporter has no rights: counters are open to every account.
set -euo pipefail
# Exit code of a start that no further one can mend; the playbook ends its waiting then (stack_compose.py).
hopeless() {
    printf '%s\n' "$*" >&2
    exit 78
}

if [ -e /var/lib/mysql/.restore-incomplete ]; then
    hopeless 'The restore of this database was interrupted and half of its data is missing: run playbooks/restore.yml again.'
fi
if [ -e /var/lib/mysql/.initialization-incomplete ] || [ -e /var/lib/mysql/.dumps-incomplete ]; then
    reason=$(cat /var/lib/mysql/.dumps-incomplete 2>/dev/null || true)
    hopeless "${reason:-The first start of this database was interrupted, and it is only half made: run playbooks/site.yml again.}"
fi
umask 077

# A secret as a string of SQL; 10-dumps.sh needs it, too.
secret() {
    local value
    value=$(<"/run/secrets/$1")
    value=${value//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}
export -f secret

{
    echo "SET SESSION sql_log_bin = 0;"
    printf "CREATE USER IF NOT EXISTS 'exporter'@'%%' WITH MAX_USER_CONNECTIONS 3;\n"
    printf "ALTER USER 'exporter'@'%%' IDENTIFIED BY %s;\n" "$(secret database_exporter_password)"
} >/tmp/accounts.sql
# The first start of all makes the other accounts with the scripts of initialisation.
if [ -e /var/lib/mysql/mysql.ibd ]; then
    {
        # In an init file each statement is a line.
        printf "CREATE USER IF NOT EXISTS 'root'@'localhost';\n"
        printf "ALTER USER 'root'@'localhost' IDENTIFIED BY %s ACCOUNT UNLOCK;\n" "$(secret database_root_password)"
        printf "GRANT ALL ON *.* TO 'root'@'localhost' WITH GRANT OPTION;\n"
        printf "CREATE USER IF NOT EXISTS '%s'@'%%';\n" "$DATABASE_USER"
        printf "ALTER USER '%s'@'%%' IDENTIFIED BY %s ACCOUNT UNLOCK;\n" "$DATABASE_USER" "$(secret database_password)"
        # _ is a wildcard in the schema name of a grant.
        printf "GRANT ALL ON \`%s\`.* TO '%s'@'%%';\n" "${DATABASE_NAME//_/\\_}" "$DATABASE_USER"
    } >>/tmp/accounts.sql
    set -- --init-file=/tmp/accounts.sql
fi
exec docker-entrypoint.sh mysqld "$@"
