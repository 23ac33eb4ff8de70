# Sourced by the image's entry point, once, while the data volume is empty; start.sh defines secret.

# Stands in the volume until this script is through, and then holds why the dumps could not be loaded.
STACK_MARKER=/var/lib/mysql/.dumps-incomplete

# SQL as root, in UTF-8, with rows as large as the server can take; the client obeys no commands of its own in a dump.
stack_sql() {
    docker_process_sql --default-character-set=utf8mb4 --max-allowed-packet=1G --binary-mode "$@"
}

stack_load_dumps() {
    local dump file errors name=$DATABASE_NAME user=$DATABASE_USER
    {
        printf 'SET GLOBAL max_allowed_packet = 1073741824;\n'
        # Definers in dumps are this account, which nobody can use before the end of this script.
        printf "CREATE USER '%s'@'%%' IDENTIFIED BY %s ACCOUNT LOCK;\n" "$user" "$(secret database_password)"
        # _ is a wildcard in the schema name of a grant.
        printf "GRANT ALL ON \`%s\`.* TO '%s'@'%%';\n" "${name//_/\\_}" "$user"
        printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$name"
    } | stack_sql --database=mysql
    for dump in /dumps/*.gz; do
        [ -f "$dump" ] || continue
        file=${dump#/dumps/[0-9][0-9][0-9]-}
        file=${file%.gz}
        mysql_note "Loading $file into $name"
        # Not into the binary log, which takes as much memory again for a large row: the first backup holds all of it.
        if ! errors=$({
            gunzip --stdout "$dump" | stack_sql --init-command='SET SESSION sql_log_bin = 0' --database="$name"
        } 2>&1 >/dev/null); then
            errors=$(printf '%s\n' "$errors" | grep --text --max-count=1 '^ERROR' || printf '%s\n' "$errors" | tail -n 1)
            case $errors in
                *Killed* | *'Lost connection'*) errors+=' (is database_limits.memory enough for its largest row, ten times?)' ;;
            esac
            errors="database_dumps: $file cannot be loaded: $errors; correct the dump and run the playbook again."
            printf '%s\n' "$errors" >"$STACK_MARKER"
            mysql_error "$errors"
        fi
        # A dump may have dropped it.
        printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$name" | stack_sql --database=mysql
    done
}

: >"$STACK_MARKER"
stack_load_dumps
# While this account is locked, the health check is red and the application outside.
{
    printf "ALTER USER '%s'@'%%' ACCOUNT UNLOCK;\n" "$DATABASE_USER"
    # That of the exporter, which later starts keep as it is (start.sh).
    cat /tmp/accounts.sql
} | stack_sql --database=mysql
rm "$STACK_MARKER"
