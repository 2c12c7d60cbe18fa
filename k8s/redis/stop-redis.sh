#!/bin/sh
# Before a data node stops on purpose (preStop): a master hands over first. Every step has a bound; what fails here is
# left to the failover that follows when the process has ended.
set -eu
. "$(dirname "$0")/lib.sh"

# Milliseconds in which this master takes no writes: callers wait that long and are then told by READONLY where they are.
PAUSE=4000
# Seconds for the Sentinels to find the replicas. After a rolling restart all of these are pods with a new address, and a
# Sentinel goes on trying the old one for 15 s before it asks for the name again (SENTINEL_MIN_LINK_RECONNECT_PERIOD).
PATIENCE=40

# Every replica that follows has everything that this master has written.
caught_up() {
  for node in $(other_nodes); do
    text=$(admin "$node" INFO replication) || continue
    case $text in *master_link_status:up*) ;; *) continue ;; esac
    [ "$(printf '%s\n' "$text" | info_field slave_repl_offset)" -ge "$written" ] || return 1
  done
}

promoted() {
  for node in $(other_nodes); do
    case $(admin "$node" ROLE) in master*) successor=$node && return 0 ;; esac
  done
  return 1
}

announced() {
  known=$(known_master "$(majority)") && [ "${known#* }" != "$SELF" ]
}

# A Sentinel sees a replica that it may promote: nothing is wrong with it, and it is in sync (start-redis.sh).
seen() {
  for sentinel in $(words "$REDIS_SENTINELS"); do
    admin "$sentinel" SENTINEL REPLICAS "$REDIS_MASTER_NAME" |
      sed -n '/^flags$/{n;h;};/^slave-priority$/{n;H;x;s/\n/ /p;}' | grep -qx 'slave 100' && return 0
  done
  return 1
}

# Writes wait from here on, unless the Sentinels refuse.
fail_over_without_writes() {
  seen || return 1
  admin "$SELF" CLIENT PAUSE "$PAUSE" WRITE >/dev/null
  written=$(admin "$SELF" INFO replication | info_field master_repl_offset)
  until_true 2 caught_up || say "a replica is behind"
  if fail_over; then return 0; fi
  admin "$SELF" CLIENT UNPAUSE >/dev/null
  return 1
}

# With nobody who follows there is nobody to wait for: everything is being deleted, say.
alone() { [ "$(admin "$SELF" INFO replication | info_field connected_slaves)" = 0 ]; }

begun=no
decided() {
  if fail_over_without_writes; then begun=yes; else alone; fi
}

case $(admin "$SELF" ROLE) in master*) ;; *) exit 0 ;; esac
trap 'admin "$SELF" CLIENT UNPAUSE >/dev/null' EXIT
until_true "$PATIENCE" decided || say "the Sentinels see nobody whom they could promote"
[ "$begun" = yes ] || exit 0
until_true 3 promoted || exit 0
# The Sentinels will say so as well, about a second later.
for node in $(other_nodes) "$SELF"; do
  [ "$node" = "$successor" ] ||
    admin "$node" REPLICAOF "$(host_of "$successor")" "$(port_of "$successor")" >/dev/null || true
done
admin "$SELF" CLIENT UNPAUSE >/dev/null
say "handed over to $successor"
until_true 5 announced || say "no majority of the Sentinels has announced it yet"
