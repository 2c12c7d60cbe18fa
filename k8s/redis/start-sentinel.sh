#!/bin/sh
# Start a Sentinel with what it knew before. Its knowledge (who is master since which epoch, whom it has voted for) is on
# its volume: a Sentinel that forgets could vote twice in one epoch, and one that comes back could name a master of old.
set -eu
. "$(dirname "$0")/lib.sh"

STATE=$SENTINEL_DATA/sentinel.conf
QUORUM=$(majority)
# Milliseconds until a master counts as down: 2,700, 2,850, 3,000 by the pod's number. Sentinels that notice a death at the
# same moment all vote for themselves, and nobody is elected; two agree after 2,850, and the third has its vote left.
pod=${HOST%%.*}
number=${pod##*-}
case $number in '' | *[!0-9]*) number=1 ;; esac
DOWN_AFTER=$((2700 + number * 150))

# Who was master as the last one knew it: this Sentinel itself, else another one, else a node that is being followed,
# else it is a new installation, and the first node is its master.
find_master() {
  remembered=$(sed -n "s/^sentinel monitor $REDIS_MASTER_NAME \([^ ]*\) \([0-9]*\) .*/\1:\2/p" "$STATE" 2>/dev/null) || true
  if [ -n "$remembered" ]; then
    printf '%s' "$remembered"
  elif known=$(known_master 1); then
    printf '%s' "${known#* }"
  else
    for node in $(words "$REDIS_NODES"); do
      text=$(admin "$node" INFO replication) || continue
      case $text in *role:master*slave0:*) printf '%s' "$node" && return ;; esac
    done
    printf '%s' "${REDIS_NODES%%,*}"
  fi
}

# What Sentinel has written about itself and the others.
remembered_state() {
  sed -n '/^sentinel myid /p;/^sentinel current-epoch /p;/^sentinel config-epoch /p;/^sentinel leader-epoch /p;/^sentinel known-/p' \
    "$STATE" 2>/dev/null || true
}

# Milliseconds, which Sentinel takes at run time only. By default it knows of a replica what was true up to 10 s ago: too old
# to choose the one that has most; and it takes a second more to notice a master that hangs, and one that was promoted.
look_closely() {
  tries=0
  until [ "$(admin "$SELF" SENTINEL DEBUG INFO-PERIOD 1000 PING-PERIOD 250 ASK-PERIOD 250)" = OK ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ]; then say "goes on with its own periods" && return; fi
    sleep 0.5
  done
}

umask 077
master=$(find_master)
MASTER_HOST=$(host_of "$master")
MASTER_PORT=$(port_of "$master")
state=$(remembered_state)
{
  render "$(dirname "$0")/sentinel.conf"
  tls_settings
  printf '%s\n' "$state"
} >"$STATE.new"
mv "$STATE.new" "$STATE"
say "watching $master"
look_closely &
exec redis-server "$STATE" --sentinel
