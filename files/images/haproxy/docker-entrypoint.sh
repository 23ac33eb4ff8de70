#!/bin/sh
set -e
# Options alone are options of haproxy.
case "$1" in
    -*) set -- haproxy "$@" ;;
esac
if [ "$1" = haproxy ]; then
    shift
    # -W: a master process that reloads on SIGUSR2. -db: stay in the foreground.
    set -- haproxy -W -db "$@"
fi
exec "$@"
