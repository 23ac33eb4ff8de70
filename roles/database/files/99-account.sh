# Sourced last: while this account is locked, the health check is red and the application outside.

stack_open_account() {
    {
        printf "ALTER USER '%s'@'%%' ACCOUNT UNLOCK;\n" "$DATABASE_USER"
        # That of the exporter, which later starts keep as it is (start.sh).
        cat /tmp/accounts.sql
    } | stack_sql --database=mysql
    rm "$STACK_MARKER"
}

stack_open_account
