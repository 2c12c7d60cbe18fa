-- Set an entry aside that Loki will never take: out of the outbox and into the quarantine, at once.
--
-- KEYS  1 outbox   2 shard's pending tenants   3 shard's backlog   4 quarantine
-- ARGV  1 tenant id   2 stream id   3 the entry and the reason, JSON
-- Reply 1, or 0 when the entry was not in the outbox (any more), and is not kept either

local removed = settle(2, 2)
if removed == 1 then redis.call('HSET', KEYS[4], ARGV[2], ARGV[3]) end
return removed
