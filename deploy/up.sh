#!/bin/sh
# Starts the cluster of compose.yaml, and waits until it is healthy. Makes passwords the first time.
set -eu
cd "$(dirname "$0")"

password() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

if [ ! -e .env ]; then
  umask 077
  printf 'POSTGRES_PASSWORD=%s\nREDIS_PASSWORD=%s\n' "$(password)" "$(password)" > .env.new
  mv .env.new .env
fi
exec docker compose up --build --detach --wait "$@"
