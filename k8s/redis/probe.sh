#!/bin/sh
# probe.sh alive, of Redis or Sentinel; ready, of Redis; asked, of Sentinel.
# A node that loads its data or has lost its master is alive: killing it would make things worse.
set -eu
. "$(dirname "$0")/lib.sh"

health() { command_to "$SELF" health "$HEALTH_PASSWORD" "$@"; }

case $1 in
  alive) case $(health PING) in PONG | LOADING* | MASTERDOWN* | BUSY* | MISCONF*) ;; *) exit 1 ;; esac ;;
  # A master, or a replica that follows it: the next pod of a rolling restart waits for that.
  ready) case $(health INFO replication) in *role:master* | *master_link_status:up*) ;; *) exit 1 ;; esac ;;
  # A Sentinel that knows a master.
  asked) [ -n "$(health SENTINEL GET-MASTER-ADDR-BY-NAME "$REDIS_MASTER_NAME")" ] ;;
esac
