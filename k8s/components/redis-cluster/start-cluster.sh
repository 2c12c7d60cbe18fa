#!/bin/sh
# Start a node of a Redis Cluster. Nobody forms it by hand: the first three nodes of an empty installation get the slots, and
# whoever has none, also because its volume was lost, follows a master that needs a replica.
#
# Besides what lib.sh says: POD_IP, this pod's address; and REDIS_NODES are six, three masters and a replica of each.
set -eu
. "$(dirname "$0")/lib.sh"

# Seconds in which a master that restarted leaves its slots to its replica, which may be ahead of its disk, or has what a lost
# volume had: it counts as failed after three (cluster-node-timeout), but only while it does not answer, and a vote takes
# one more. When nobody took them this one is the best there is.
GRACE=15
SLOTS=16384

nodes_as_seen_by() { admin "$1" CLUSTER NODES; }
# <id> <address> <flags> <master> <ping> <pong> <epoch> <link>, and for a master with slots those.
own_line() { nodes_as_seen_by "$SELF" | grep ' myself,'; }
all_slots_have_owners() {
  case $(admin "$SELF" CLUSTER INFO | tr -d '\r' | tr '\n' ' ') in
    *"cluster_state:ok cluster_slots_assigned:$SLOTS cluster_slots_ok:$SLOTS "*) ;;
    *) return 1 ;;
  esac
}

# Some other node takes this one, as it was before, for the owner of slots.
is_thought_an_owner() {
  for node in $(other_nodes); do
    if nodes_as_seen_by "$node" |
      awk -v name=",$HOST\$" -v port=":$PORT@" 'NF > 8 && $2 ~ name && index($2, port) { found = 1 } END { exit !found }'
    then return 0; fi
  done
  return 1
}

# The nodes know each other by address, and a pod that comes back has another one.
meet_others() {
  strangers=0
  for node in $(other_nodes); do
    id=$(admin "$node" CLUSTER MYID) || id=unknown
    case $(nodes_as_seen_by "$SELF" | grep "^$id ") in *' connected'*) continue ;; esac
    strangers=$((strangers + 1))
    address=$(getent hosts "$(host_of "$node")") || continue
    admin "$SELF" CLUSTER MEET "${address%% *}" "$(port_of "$node")" >/dev/null || true
  done
  [ "$strangers" = 0 ]
}

# The first node gives the slots away, while nobody holds anything. A range that has an owner is refused by Redis.
found() {
  [ "$SELF" = "${REDIS_NODES%%,*}" ] && others_are_empty || return 0
  from=0
  for node in $(words "$REDIS_NODES" | cut -d ' ' -f 1-3); do
    to=$((from + SLOTS / 3))
    [ "$((to + 3))" -lt "$SLOTS" ] || to=$((SLOTS - 1))
    admin "$node" CLUSTER ADDSLOTSRANGE "$from" "$to" >/dev/null || true
    from=$((to + 1))
  done
}

# Follow the master with the fewest replicas; of several the one three places away, so that nodes that start together
# choose different ones.
follow() {
  all_slots_have_owners || return 0
  set -- $(words "$REDIS_NODES")
  while [ "$1" != "$SELF" ]; do set -- "$@" "$1" && shift; done
  partner=$(admin "$4" CLUSTER MYID) || partner=unknown
  master=$(
    nodes_as_seen_by "$SELF" | awk -v partner="$partner" '
      $3 ~ /slave/ && $3 !~ /fail/ { replicas[$4]++ }
      NF > 8 { masters[$1] }
      END { for (id in masters) print replicas[id] + 0, id != partner, id }' | sort | sed -n '1s/.* //p'
  )
  [ -z "$master" ] || admin "$SELF" CLUSTER REPLICATE "$master" >/dev/null || true
}

# Until this node has its part and is linked with all others.
join() {
  while kill -0 $$ 2>/dev/null; do
    met=true
    meet_others || met=false
    case $(own_line) in
      *'connected '[0-9]* | *myself,slave*) if "$met"; then return 0; fi ;;
      *myself,master*)
        if "$met"; then found; fi
        follow
        ;;
    esac
    sleep 1
  done
}

if [ -e "$REDIS_DATA/appendonlydir" ] && ! [ -e "$REDIS_DATA/nodes.conf" ]; then
  fail "this volume holds the data of a Redis that was no cluster: it is left as it is"
fi
began=$(now)
while is_thought_an_owner && [ $(($(now) - began)) -lt "$GRACE" ]; do
  say "waiting for a replica to take over"
  sleep 0.5
done
umask 077
{
  data_settings
  cat <<END
cluster-enabled yes
cluster-node-timeout 3000
cluster-require-full-coverage no
cluster-announce-ip $POD_IP
cluster-announce-hostname $HOST
cluster-preferred-endpoint-type hostname
END
  [ "${REDIS_TLS:-false}" != true ] || echo 'tls-cluster yes'
} >"$RUN/redis.conf"
join >/dev/null 2>&1 &
exec redis-server "$RUN/redis.conf"
