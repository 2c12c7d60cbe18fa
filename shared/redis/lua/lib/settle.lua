-- Shared by the scripts that take entries out of an outbox. Needs fields.lua in front of it.
--
-- KEYS  1 outbox   2 shard's pending tenants   3 shard's backlog
-- ARGV  1 tenant id

-- Remove entries whose stream ids are ARGV[first] to ARGV[last], keep the count of the backlog and the time since when the tenant has been
-- waiting. Entries that are gone already are passed over. Answers how many were removed.
local function settle(first, last)
  local removed = redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
  redis.call('DECRBY', KEYS[3], removed)
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if oldest then
    redis.call('ZADD', KEYS[2], value_of(oldest[2], 'at'), ARGV[1])
  else
    redis.call('ZREM', KEYS[2], ARGV[1])
  end
  return removed
end
