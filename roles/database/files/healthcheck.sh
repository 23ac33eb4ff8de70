#!/bin/bash
# Healthy is a server that answers the application over TCP. During initialisation the server listens
# on a socket only, and the application's account is the last thing that initialisation makes.
set -euo pipefail
password=$(</run/secrets/database_password)
password=${password//\\/\\\\}
mysql --defaults-extra-file=<(printf '[client]\npassword="%s"\n' "${password//\"/\\\"}") \
    --protocol=tcp --host=127.0.0.1 --user="$DATABASE_USER" --connect-timeout=3 \
    --execute='SELECT 1' -- "$DATABASE_NAME" >/dev/null
