#!/bin/sh
# Starts what a container of a Swarm runs, with nothing but a shell of the image.
#
#     task.sh exec COMMAND...        becomes the command
#     task.sh drain=5 COMMAND...     runs it, and hands on the signal to end after 5 seconds
#     task.sh listens=8000           ends well if something listens on the port
#
# NETWORKS says which address range each network of the container has: the address in it becomes a variable of the
# network's name, and @NAME@ in the command and in LISTEN_NAME becomes that address. OUTSIDE is the address that is in no
# range: there comes in what a node publishes.
#
# NEEDS (db:3306) is what the command cannot serve without. A node that has just come back may not know the names of other
# nodes' containers until the engines compare what they know, which they do every 30 seconds. So a new container waits until it
# can reach what it needs, but not much longer than that: it may be away altogether. Only bash and timeout can find out;
# without them the command starts at once.
#
# A Swarm takes a container out of its DNS and sends the signal in the same moment. Load balancers have to notice first;
# until then the application goes on serving, whether it knows of draining or not.

case "$1" in
listens=*)
    port=$(printf ':%04X' "${1#listens=}")
    for table in /proc/net/tcp /proc/net/tcp6; do
        while read -r _ address _ state _; do
            case "$state $address" in "0A "*"$port") exit 0 ;; esac
        done <"$table"
    done
    exit 1
    ;;
esac

number() {
    old=$IFS
    IFS=.
    set -- $1
    IFS=$old
    value=$((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}

inside() { # address, range
    number "$1"
    mine=$value
    number "${2%/*}"
    shift_by=$((32 - ${2#*/}))
    [ $((mine >> shift_by)) -eq $((value >> shift_by)) ]
}

addresses=
while read -r mark word _; do
    case "$mark $word" in
    "|-- "*) address=$word ;;
    "/32 host")
        case "$address" in 127.*) ;; *) case " $addresses " in *" $address "*) ;; *) addresses="$addresses $address" ;; esac ;; esac
        ;;
    esac
done </proc/net/fib_trie

OUTSIDE=
for address in $addresses; do
    found=
    for network in ${NETWORKS-}; do
        if inside "$address" "${network#*=}"; then
            export "${network%%=*}=$address"
            found=yes
        fi
    done
    [ "$found" ] || OUTSIDE=$address
done
export OUTSIDE

filled() { # text: every mark in it becomes an address
    value=$1
    for name in OUTSIDE $(for network in ${NETWORKS-}; do echo "${network%%=*}"; done); do
        case "$value" in
        *"@$name@"*) eval "value=\${value%%@$name@*}\$$name\${value#*@$name@}" ;;
        esac
    done
}

if [ "${LISTEN_NAME-}" ]; then
    filled "$LISTEN_NAME"
    LISTEN_NAME=$value
fi
how=$1
shift
count=$#
while [ "$count" -gt 0 ]; do
    filled "$1"
    shift
    set -- "$@" "$value"
    count=$((count - 1))
done

case "$how" in exec) exec "$@" ;; esac

signal=
for name in TERM INT QUIT USR1 WINCH; do
    trap "signal=$name" "$name"
done
tries=0
if [ "${NEEDS-}" ] && command -v bash >/dev/null && command -v timeout >/dev/null; then tries=45; fi
while [ "$tries" -gt 0 ] && [ ! "$signal" ] && ! timeout 1 bash -c ": <>/dev/tcp/${NEEDS%:*}/${NEEDS##*:}" 2>/dev/null; do
    tries=$((tries - 1))
    sleep 1
done
if [ "$signal" ]; then exit 143; fi
"$@" &
child=$!
wait "$child"
code=$?
if [ "$signal" ]; then
    trap '' TERM INT QUIT USR1 WINCH
    sleep "${how#drain=}"
    kill -s "$signal" "$child"
    wait "$child"
    code=$?
fi
exit "$code"
