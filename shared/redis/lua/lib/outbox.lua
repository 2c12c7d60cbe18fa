-- Shared by every script: the tenant, the clock and the audit entry. Put in front of the script when it is loaded.
--
-- KEYS  1 tenant   2 credentials   3 outbox   4 shard's pending tenants   5 shard's backlog

-- Redis's own clock, in milliseconds: one clock for all callers, whatever their machines think. Read once, because it
-- goes on while a script runs (Redis 7.0), and an item's time must be its entry's.
local clock
local function now_ms()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end

-- Lua prints large numbers in exponent form; Redis keys and fields hold plain digits.
local function digits(number)
  return string.format('%d', number)
end

-- The tenant's record, or nil when there is no such tenant.
local function read_tenant()
  local id, status, seq, at = unpack(redis.call('HMGET', KEYS[1], 'id', 'status', 'seq', 'at'))
  if not id then return nil end
  return { id = id, status = status, seq = tonumber(seq or 0), at = tonumber(at or 0) }
end

local function outbox_is_full(limit)
  return redis.call('XLEN', KEYS[3]) >= tonumber(limit)
end

-- Entries of this call that found no room and were left out.
local unaudited = 0

-- An entry's stream id as streamIdOf makes it: its number, and what four of the random characters of its own id spell.
--   context: as auditContext makes it, `{"id":"evt_…`
local function stream_id(seq, context)
  local a, b, c, d = string.byte(context, 12, 15)
  return string.format('%s-%d', seq, ((a * 256 + b) * 256 + c) * 256 + d)
end

-- Append the audit entry of what just happened. The stream id begins with the tenant's next sequence number; the time never
-- runs backwards inside a tenant, not even when a failover moves it to a machine with a slower clock.
-- An entry that is left out takes its number all the same: revisions of items and places of API keys are made of it, and
-- the gap that it leaves in the trail proves that something went unaudited.
--   entry: at (ms), outcome, reason ('' for success), actor ('<type>:<id>'), username, context (JSON of the caller's
--   part), version and expires_at (of an item, or nil)
--   limit: the entry is left out when the outbox holds as many; nil to write it whatever the outbox holds
-- Answers {sequence number, {field, value, …}}: what was written, without the context, which the caller has; false when
-- it was left out.
local function append(tenant, entry, limit)
  local seq, at = digits(tenant.seq + 1), digits(math.max(entry.at, tenant.at))
  redis.call('HSET', KEYS[1], 'seq', seq, 'at', at)
  tenant.seq, tenant.at = tenant.seq + 1, math.max(entry.at, tenant.at)
  if limit and outbox_is_full(limit) then
    unaudited = unaudited + 1
    return false
  end
  local fields = { 'at', at, 'outcome', entry.outcome, 'reason', entry.reason, 'actor', entry.actor,
    'username', entry.username }
  for _, name in ipairs({ 'version', 'expires_at' }) do
    if entry[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = digits(entry[name])
    end
  end
  redis.call('XADD', KEYS[3], stream_id(seq, entry.context), 'context', entry.context, unpack(fields))
  redis.call('ZADD', KEYS[4], 'NX', at, tenant.id)
  redis.call('INCR', KEYS[5])
  return { seq, fields }
end
