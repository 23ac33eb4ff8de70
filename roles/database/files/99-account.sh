# Sourced last: while this account is missing, the health check is red and the application outside.

stack_create_account() {
    local password name=$DATABASE_NAME user=$DATABASE_USER
    password=$(</run/secrets/database_password)
    password=${password//\\/\\\\}
    {
        printf "CREATE USER '%s'@'%%' IDENTIFIED BY '%s';\n" "$user" "${password//\'/\'\'}"
        # _ is a wildcard in the schema name of a grant.
        printf "GRANT ALL ON \`%s\`.* TO '%s'@'%%';\n" "${name//_/\\_}" "$user"
        # That of the exporter, which later starts keep as it is (start.sh).
        cat /tmp/accounts.sql
    } | docker_process_sql --database=mysql
}

stack_create_account
