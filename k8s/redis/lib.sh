# What the scripts beside this file share. POSIX sh, with what every official redis image has.
#
# From the environment:
#   REDIS_NODES          every data node, <host>:<port>,…; the first one is the master of an empty installation
#   REDIS_SENTINELS      every Sentinel, <host>:<port>,…
#   REDIS_MASTER_NAME    what the Sentinels call the master
#   SELF                 this pod's own <host>:<port>
#   RUN                  a folder in memory for what holds passwords
#   *_PASSWORD           of the users in redis.conf and sentinel.conf
#   REDIS_TLS            `true`: TLS everywhere, with tls.crt, tls.key and ca.crt in TLS_FILES

# Say something, once until there is something else to say.
said=''
say() {
  [ "$*" != "$said" ] || return 0
  said=$*
  printf '%s: %s\n' "${0##*/}" "$*" >&2
}
fail() {
  say "$*"
  exit 1
}
now() { date +%s; }
host_of() { printf '%s' "${1%:*}"; }
port_of() { printf '%s' "${1##*:}"; }
words() { printf '%s' "$1" | tr ',' ' '; }

HOST=$(host_of "$SELF")
PORT=$(port_of "$SELF")

# The lines of a file with ${NAME} replaced by that variable.
render() {
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in '#'* | '') continue ;; esac
    while :; do
      case $line in *'${'*'}'*) ;; *) break ;; esac
      rest=${line#*'${'}
      name=${rest%%'}'*}
      eval "value=\${$name-}"
      # A value that could end its place would be another setting.
      case $value in
        '') fail "$name is not set" ;;
        *[!A-Za-z0-9_./:-]*) fail "$name has characters that a configuration file cannot hold" ;;
      esac
      line=${line%%'${'*}$value${rest#*'}'}
    done
    printf '%s\n' "$line"
  done <"$1"
}

# The lines that make a configuration speak TLS only.
tls_settings() {
  [ "${REDIS_TLS:-false}" = true ] || return 0
  cat <<END
port 0
tls-port $PORT
tls-cert-file $TLS_FILES/tls.crt
tls-key-file $TLS_FILES/tls.key
tls-ca-cert-file $TLS_FILES/ca.crt
tls-auth-clients no
tls-replication yes
END
}

# A data node's configuration, but for whom it follows.
data_settings() {
  # 70 percent of the pod's memory for data; the rest is for copies on write, replicas' buffers and fragmentation.
  MAXMEMORY=$((REDIS_MEMORY_LIMIT / 100 * 70))
  render "$(dirname "$0")/redis.conf"
  tls_settings
}

# command <host:port> <user> <password> <word>…: one command, answered within 2 s or not at all.
command_to() {
  node=$1 user=$2 password=$3
  shift 3
  if [ "${REDIS_TLS:-false}" = true ]; then set -- --tls --cacert "$TLS_FILES/ca.crt" "$@"; fi
  # By the environment, where no list of processes shows it.
  REDISCLI_AUTH=$password timeout 2 redis-cli -h "$(host_of "$node")" -p "$(port_of "$node")" --user "$user" "$@" 2>&1
}
admin() {
  at=$1
  shift
  command_to "$at" admin "$ADMIN_PASSWORD" "$@"
}

# How one Sentinel sees the master: "<configuration epoch> <host>:<port>". Nothing when it does not know.
master_by() {
  admin "$1" SENTINEL MASTER "$REDIS_MASTER_NAME" | sed 'N;s/\n/=/' | {
    host='' port='' epoch=''
    while IFS= read -r field; do
      case $field in
        ip=*) host=${field#*=} ;;
        port=*) port=${field#*=} ;;
        config-epoch=*) epoch=${field#*=} ;;
      esac
    done
    [ -z "$host" ] || [ -z "$port" ] || [ -z "$epoch" ] || printf '%s %s:%s' "$epoch" "$host" "$port"
  }
}

# known_master <how many must answer>: "<epoch> <host>:<port>" by the newest configuration that any Sentinel holds.
# A failover needs a majority, so any majority holds at least one Sentinel that took part in the last one.
known_master() {
  answers=0 newest=-1 master=''
  for sentinel in $(words "$REDIS_SENTINELS"); do
    answer=$(master_by "$sentinel") || answer=''
    [ -n "$answer" ] || continue
    answers=$((answers + 1))
    if [ "${answer%% *}" -gt "$newest" ]; then
      newest=${answer%% *}
      master=${answer#* }
    fi
  done
  if [ "$answers" -lt "$1" ]; then return 1; fi
  printf '%s %s' "$newest" "$master"
}
majority() {
  set -- $(words "$REDIS_SENTINELS")
  printf '%s' $(($# / 2 + 1))
}

# Ask the Sentinels, one after the other, to replace this node as the master. Succeeds when one has begun. One that names
# another master already would replace that one, so it is looked at just before.
# A Sentinel promotes only a replica that has followed the master until now: see `replica-priority` in start-redis.sh.
fail_over() {
  for sentinel in $(words "$REDIS_SENTINELS"); do
    case $(master_by "$sentinel") in *" $SELF") ;; *) continue ;; esac
    answer=$(admin "$sentinel" SENTINEL FAILOVER "$REDIS_MASTER_NAME") || true
    case $answer in OK* | *INPROG*) return 0 ;; esac
    say "no failover: $answer"
  done
  return 1
}

# The field <name> of an INFO text on standard input.
info_field() { tr -d '\r' | sed -n "s/^$1://p"; }

other_nodes() {
  for node in $(words "$REDIS_NODES"); do
    [ "$node" = "$SELF" ] || printf '%s ' "$node"
  done
}
# Every other node answers, and none has data.
others_are_empty() {
  for node in $(other_nodes); do
    text=$(admin "$node" INFO keyspace) || return 1
    case $text in *Keyspace*) ;; *) return 1 ;; esac
    case $text in *db[0-9]*) return 1 ;; esac
  done
}

# until_true <seconds> <command>…
until_true() {
  end=$(($(now) + $1))
  shift
  until "$@"; do
    [ "$(now)" -lt "$end" ] || return 1
    sleep 0.1
  done
}
