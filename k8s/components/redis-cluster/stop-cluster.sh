#!/bin/sh
# Before a node of a Redis Cluster stops on purpose (preStop): a master has a replica take its slots, which first gets
# everything that this one has written (CLUSTER FAILOVER). What fails here is left to the vote that follows.
set -eu
. "$(dirname "$0")/lib.sh"

replaced() { case $(admin "$SELF" ROLE) in slave*) ;; *) return 1 ;; esac; }

case $(admin "$SELF" ROLE) in master*) ;; *) exit 0 ;; esac
id=$(admin "$SELF" CLUSTER MYID)
for node in $(other_nodes); do
  case $(admin "$node" CLUSTER NODES | grep ' myself,slave ') in *" $id "*) ;; *) continue ;; esac
  case $(admin "$node" INFO replication) in *master_link_status:up*) ;; *) continue ;; esac
  [ "$(admin "$node" CLUSTER FAILOVER)" = OK ] || continue
  if until_true 5 replaced; then say "handed over to $node" && exit 0; fi
done
say "nobody could take over"
