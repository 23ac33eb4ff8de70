#!/bin/bash
# Keeps an engine running: starts it again whenever it ends, as a service manager does.
set -euo pipefail

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    # Version 2 of control groups hands controllers on only from a group that holds no process.
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs 2> /dev/null || true
    sed -e 's/ / +/g' -e 's/^/+/' < /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
fi

while true; do
    dockerd || echo "The engine ended with $?." >&2
    sleep 1
done
