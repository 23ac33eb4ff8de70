# Sourced by the image's entry point, once, while the data volume is empty.

stack_read_dump() {
    case "$1" in
        *.gz) gunzip --stdout "$1" ;;
        *.bz2) bunzip2 --stdout "$1" ;;
        *.xz) xz --decompress --stdout "$1" ;;
        *.zst) zstd --decompress --stdout "$1" ;;
        *) cat "$1" ;;
    esac
}

stack_load_dumps() {
    local dump creations name=$DATABASE_NAME
    for dump in /dumps/*; do
        [ -f "$dump" ] || continue
        # Many dumps create their database themselves, and fail where it is there already.
        # They are counted, because a search that ends early would break the pipe of a large dump.
        creations=$(stack_read_dump "$dump" |
            grep --ignore-case --extended-regexp --count '^[[:space:]]*CREATE[[:space:]]+(DATABASE|SCHEMA)[[:space:]]' || true)
        if [ "$creations" -gt 0 ]; then
            mysql_note "Loading $dump, which creates its database itself"
            stack_read_dump "$dump" | docker_process_sql --database=mysql --default-character-set=utf8mb4
        else
            mysql_note "Loading $dump into $name"
            printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$name" | docker_process_sql --database=mysql --default-character-set=utf8mb4
            stack_read_dump "$dump" | docker_process_sql --database="$name" --default-character-set=utf8mb4
        fi
    done
    printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$name" | docker_process_sql --database=mysql --default-character-set=utf8mb4
}

stack_load_dumps
