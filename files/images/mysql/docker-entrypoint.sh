#!/bin/bash
# Starts MySQL; on an empty data directory it initialises it first.
# Scripts in /docker-entrypoint-initdb.d may call docker_process_sql, mysql_note, mysql_warn
# and mysql_error, as with the official image.
set -eo pipefail
shopt -s nullglob

readonly INITDB_DIR=/docker-entrypoint-initdb.d
# Stands in the data directory from the first written byte until initialisation is complete.
readonly MARKER=.initialization-incomplete

mysql_log() { printf '%s [%s] [Entrypoint]: %s\n' "$(date --utc --iso-8601=seconds)" "$1" "$2"; }
mysql_note() { mysql_log Note "$*"; }
mysql_warn() { mysql_log Warn "$*" >&2; }
mysql_error() { mysql_log ERROR "$*" >&2; exit 1; }

# Set variable $1 from itself, from the file that ${1}_FILE names, or to the default $2.
load_variable() {
    local name=$1 file_name="${1}_FILE"
    local value=${!name:-${2:-}}
    if [ -n "${!file_name:-}" ]; then
        [ -z "${!name:-}" ] || mysql_error "$name and $file_name are both set: set one of them"
        [ -r "${!file_name}" ] || mysql_error "$file_name names ${!file_name}, which cannot be read by user $(id -u)"
        value=$(<"${!file_name}")
    fi
    export "$name=$value"
    unset "$file_name"
}

# The value that the server would use for option $1, with the given command line.
server_option() {
    local option=$1
    shift
    "$@" --no-daemonize --verbose --help 2>/dev/null |
        awk -v option="$option" '$1 == option && /^[^ \t]/ { sub(/^[^ \t]+[ \t]+/, ""); print; exit }'
}

# A string as a literal of SQL, quotes included.
sql_quote() {
    local value=${1//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}

# Run SQL from standard input or arguments as root on the temporary server.
# --dont-use-mysql-root-password: before a password is set. --database=NAME: another schema.
docker_process_sql() {
    local -a arguments=(--protocol=socket --user=root --socket="$SOCKET" --comments)
    local password=${MYSQL_ROOT_PASSWORD:-} database=${MYSQL_DATABASE:-}
    while [ $# -gt 0 ]; do
        case "$1" in
            --dont-use-mysql-root-password) password='' ;;
            --database=*) database=${1#*=} ;;
            *) arguments+=("$1") ;;
        esac
        shift
    done
    [ -z "$database" ] || arguments+=(--database="$database")
    password=${password//\\/\\\\}
    # A descriptor instead of an argument or a variable: neither shows in the process list.
    mysql --defaults-extra-file=<(printf '[client]\npassword="%s"\n' "${password//\"/\\\"}") "${arguments[@]}"
}

check_credentials() {
    if [ -z "$MYSQL_ROOT_PASSWORD" ] && [ -z "${MYSQL_ALLOW_EMPTY_PASSWORD:-}" ] \
        && [ -z "${MYSQL_RANDOM_ROOT_PASSWORD:-}" ]; then
        mysql_error 'the database is not initialised and no password is given: set one of MYSQL_ROOT_PASSWORD,' \
            'MYSQL_ROOT_PASSWORD_FILE, MYSQL_ALLOW_EMPTY_PASSWORD, MYSQL_RANDOM_ROOT_PASSWORD'
    fi
    if [ "$MYSQL_USER" = root ]; then
        mysql_error 'MYSQL_USER=root: root is always there, name another user or leave it out'
    fi
    if [ -n "$MYSQL_USER" ] && [ -z "$MYSQL_PASSWORD" ]; then
        mysql_error "MYSQL_USER is set without MYSQL_PASSWORD: no account can be made for $MYSQL_USER"
    fi
}

# Refuse a directory that this server must not touch.
check_data_directory() {
    if [ -e "$DATADIR/$MARKER" ]; then
        mysql_error "$DATADIR is only half initialised: the first start was interrupted." \
            'Remove the volume and start again; no data of yours is in it but what the dumps hold'
    fi
    if [ -e "$DATADIR/PG_VERSION" ]; then
        mysql_error "$DATADIR holds a PostgreSQL database: mount another volume"
    fi
    if [ -e "$DATADIR/mariadb_upgrade_info" ] || [ -e "$DATADIR/aria_log_control" ]; then
        mysql_error "$DATADIR holds a MariaDB database: mount another volume, or load a dump of it"
    fi
    if [ ! -e "$DATADIR/mysql.ibd" ]; then
        mysql_error "$DATADIR is not empty and holds no MySQL 8 or later data: mount another volume"
    fi
    local written own
    # The release that last wrote the data directory, from the server's own history file.
    written=$(sed -n 's/.*"version": *"\([0-9.]*\).*/\1/p' "$DATADIR/mysql_upgrade_history" 2>/dev/null | tail -n 1) || true
    own=$(mysqld --version | sed -n 's/.*Ver \([0-9.]*\).*/\1/p')
    if [ -n "$written" ] && [ "$(printf '%s\n%s\n' "$written" "$own" | sort -V | tail -n 1)" != "$own" ]; then
        mysql_error "$DATADIR was written by MySQL $written, newer than this server's $own:" \
            'a downgrade in place is not possible, start the newer server or restore a dump'
    fi
}

start_temporary_server() {
    "$@" --daemonize --skip-networking --skip-log-bin --default-time-zone=SYSTEM --socket="$SOCKET" \
        --log-error="$DATADIR/.entrypoint.err" --pid-file="$TEMP_PID" ||
        { cat "$DATADIR/.entrypoint.err" >&2; mysql_error 'the temporary server did not start'; }
}

stop_temporary_server() {
    local pid
    pid=$(<"$TEMP_PID")
    kill -TERM "$pid"
    # The daemon is nobody's child any more, so it is waited for by looking.
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    rm -f "$DATADIR/.entrypoint.err"
}

load_time_zones() {
    [ -z "${MYSQL_INITDB_SKIP_TZINFO:-}" ] || return 0
    command -v mysql_tzinfo_to_sql >/dev/null || return 0
    mysql_tzinfo_to_sql /usr/share/zoneinfo 2>/dev/null |
        docker_process_sql --dont-use-mysql-root-password --database=mysql
}

create_accounts() {
    if [ -n "${MYSQL_RANDOM_ROOT_PASSWORD:-}" ]; then
        MYSQL_ROOT_PASSWORD=$(openssl rand -base64 24)
        export MYSQL_ROOT_PASSWORD
        mysql_note "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"
    fi
    local password
    password=$(sql_quote "$MYSQL_ROOT_PASSWORD")
    {
        printf 'SET @@SESSION.SQL_LOG_BIN = 0;\n'
        printf 'ALTER USER root@localhost IDENTIFIED BY %s;\n' "$password"
        if [ -n "$MYSQL_ROOT_HOST" ] && [ "$MYSQL_ROOT_HOST" != localhost ]; then
            printf 'CREATE USER root@%s IDENTIFIED BY %s;\n' "$(sql_quote "$MYSQL_ROOT_HOST")" "$password"
            printf 'GRANT ALL ON *.* TO root@%s WITH GRANT OPTION;\n' "$(sql_quote "$MYSQL_ROOT_HOST")"
        fi
        printf 'FLUSH PRIVILEGES;\nDROP DATABASE IF EXISTS test;\n'
    } | docker_process_sql --dont-use-mysql-root-password --database=mysql
    if [ -n "$MYSQL_DATABASE" ]; then
        mysql_note "Creating database $MYSQL_DATABASE"
        printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "${MYSQL_DATABASE//\`/\`\`}" |
            docker_process_sql --database=mysql
    fi
    if [ -n "$MYSQL_USER" ]; then
        mysql_note "Creating user $MYSQL_USER"
        {
            printf "CREATE USER %s@'%%' IDENTIFIED BY %s;\n" "$(sql_quote "$MYSQL_USER")" "$(sql_quote "$MYSQL_PASSWORD")"
            if [ -n "$MYSQL_DATABASE" ]; then
                # _ is a wildcard in the schema name of a grant.
                local schema=${MYSQL_DATABASE//\`/\`\`}
                printf "GRANT ALL ON \`%s\`.* TO %s@'%%';\n" "${schema//_/\\_}" "$(sql_quote "$MYSQL_USER")"
            fi
        } | docker_process_sql --database=mysql
    fi
}

run_init_scripts() {
    local file
    for file in "$INITDB_DIR"/*; do
        case "$file" in
            *.sh)
                if [ -x "$file" ]; then
                    mysql_note "Running $file"
                    "$file"
                else
                    mysql_note "Sourcing $file"
                    # shellcheck disable=SC1090
                    . "$file"
                fi
                ;;
            *.sql) mysql_note "Loading $file"; docker_process_sql <"$file" ;;
            *.sql.gz) mysql_note "Loading $file"; gunzip -c "$file" | docker_process_sql ;;
            *.sql.bz2) mysql_note "Loading $file"; bunzip2 -c "$file" | docker_process_sql ;;
            *.sql.xz) mysql_note "Loading $file"; xzcat "$file" | docker_process_sql ;;
            *.sql.zst) mysql_note "Loading $file"; zstd -dc "$file" | docker_process_sql ;;
            *) mysql_warn "Ignoring $file" ;;
        esac
    done
}

initialize() {
    check_credentials
    mysql_note 'Initialising the data directory'
    mkdir -p "$DATADIR"
    # The server insists on an empty directory, but overlooks names that begin with a dot.
    : >"$DATADIR/$MARKER"
    sync "$DATADIR"
    "$@" --initialize-insecure --skip-log-bin || mysql_error 'initialisation failed, see above'
    start_temporary_server "$@"
    load_time_zones
    create_accounts
    run_init_scripts
    if [ -n "${MYSQL_ONETIME_PASSWORD:-}" ]; then
        echo "ALTER USER root@'%' PASSWORD EXPIRE;" | docker_process_sql --database=mysql
    fi
    stop_temporary_server
    rm "$DATADIR/$MARKER"
    sync "$DATADIR"
    mysql_note 'Initialisation complete'
}

main() {
    if [ "${1:0:1}" = - ]; then
        set -- mysqld "$@"
    fi
    if [ "$1" != mysqld ]; then
        exec "$@"
    fi
    local argument name
    for argument; do
        case "$argument" in
            -'?' | --help | --print-defaults | -V | --version) exec "$@" ;;
        esac
    done
    DATADIR=$(server_option datadir "$@")
    SOCKET=$(server_option socket "$@")
    [ -n "$DATADIR" ] || { "$@" --verbose --help >/dev/null; mysql_error 'the server configuration is not valid, see above'; }
    DATADIR=${DATADIR%/}
    readonly DATADIR SOCKET TEMP_PID=/var/run/mysqld/entrypoint.pid
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$DATADIR"
        find "$DATADIR" /var/run/mysqld \! -user mysql -exec chown mysql:mysql '{}' +
        exec setpriv --reuid=mysql --regid=mysql --init-groups "$BASH_SOURCE" "$@"
    fi
    for name in MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD MYSQL_ROOT_PASSWORD; do
        load_variable "$name"
    done
    load_variable MYSQL_ROOT_HOST '%'
    if [ -z "$(ls -A "$DATADIR" 2>/dev/null)" ]; then
        initialize "$@"
    else
        check_data_directory
    fi
    # The server needs none of them, and its environment can be read.
    unset MYSQL_ROOT_PASSWORD MYSQL_PASSWORD MYSQL_USER MYSQL_DATABASE MYSQL_ROOT_HOST
    exec "$@"
}

main "$@"
