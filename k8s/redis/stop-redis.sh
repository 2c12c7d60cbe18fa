#!/bin/sh
# Before a data node stops on purpose (preStop): a master hands over first. Every step has a bound; what fails here is
# left to the failover that follows when the process has ended.
set -eu
. "$(dirname "$0")/lib.sh"

# Milliseconds in which this master takes no writes: callers wait that long and are then told by READONLY where they are.
PAUSE=4000

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

case $(admin "$SELF" ROLE) in master*) ;; *) exit 0 ;; esac
admin "$SELF" CLIENT PAUSE "$PAUSE" WRITE >/dev/null
trap 'admin "$SELF" CLIENT UNPAUSE >/dev/null' EXIT
written=$(admin "$SELF" INFO replication | info_field master_repl_offset)
until_true 2 caught_up || say "a replica is behind"
fail_over || exit 0
until_true 3 promoted || exit 0
# The Sentinels will say so as well, about a second later.
for node in $(other_nodes) "$SELF"; do
  [ "$node" = "$successor" ] ||
    admin "$node" REPLICAOF "$(host_of "$successor")" "$(port_of "$successor")" >/dev/null || true
done
admin "$SELF" CLIENT UNPAUSE >/dev/null
say "handed over to $successor"
until_true 5 announced || say "no majority of the Sentinels has announced it yet"
