#!/bin/sh
# Start a data node as what the Sentinels say it is. It never makes itself master: a pod that comes back, with data that may
# be older, would become a second master, and its replicas would throw away what was acknowledged meanwhile.
#
#   The Sentinels name another node      -> follow it.
#   They name this one, which has data   -> it has just restarted, and a replica may be ahead of its disk: have them
#                                           promote that replica, and follow it. Only when for a while nobody could be
#                                           promoted, this one is the best there is.
#   They name this one, which is empty   -> a new installation, if every other node is empty as well: be its master. Else
#                                           the volume was lost: never offer emptiness to nodes that have data.
#   No majority of them answers          -> wait.
set -eu
. "$(dirname "$0")/lib.sh"

# Seconds to wait for an answer to "who is master?"; then the container ends and is started again, which is seen and alarms.
PATIENCE=300
# Seconds after which a master that restarted takes its place again, if nobody can be promoted: the Sentinels notice that
# it was away after down-after-milliseconds (3 s), and look at the replicas every second from then on.
GRACE=15
# Seconds for a failover that has begun, before another one is asked for.
FAILOVER=10

has_data() { [ -e "$REDIS_DATA/appendonlydir" ]; }

# A replica that has not caught up since it started must not be promoted: its disk may be behind.
promotable_once_in_sync() {
  while kill -0 $$ 2>/dev/null; do
    case $(admin "$SELF" INFO replication) in
      *master_link_status:up* | *role:master*)
        if [ "$(admin "$SELF" CONFIG SET replica-priority 100)" = OK ]; then return 0; fi
        ;;
    esac
    sleep 1
  done
}

# start [<host>:<port> of the master]
start() {
  umask 077
  {
    data_settings
    if [ $# -gt 0 ]; then
      printf 'replicaof %s %s\nreplica-priority 0\n' "$(host_of "$1")" "$(port_of "$1")"
    fi
  } >"$RUN/redis.conf"
  if [ $# -gt 0 ]; then
    say "following $1"
    promotable_once_in_sync >/dev/null 2>&1 &
  else
    say "being the master"
  fi
  exec redis-server "$RUN/redis.conf"
}

# Have a replica promoted, once, and give that its time.
promote_another() {
  [ $(($(now) - asked)) -ge "$FAILOVER" ] || return 0
  fail_over || return 1
  asked=$(now)
}

began=$(now)
named_since=''
asked=0
while [ $(($(now) - began)) -lt "$PATIENCE" ]; do
  if ! known=$(known_master "$(majority)"); then
    say "waiting: no majority of the Sentinels answers who is master"
  elif [ "${known#* }" != "$SELF" ]; then
    start "${known#* }"
  elif has_data; then
    named_since=${named_since:-$(now)}
    if ! promote_another && [ $(($(now) - named_since)) -ge "$GRACE" ]; then start; fi
  elif others_are_empty; then
    start
  else
    say "waiting: the Sentinels name this node, which is empty, and others have data or do not answer"
    promote_another || true
  fi
  sleep 0.5
done
fail "nobody could be found to follow within $PATIENCE s"
