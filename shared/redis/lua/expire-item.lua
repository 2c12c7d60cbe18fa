-- Turn the expiry of an item into its audit entry, if it is still due.
--
-- KEYS  1 tenant   2 item   3 outbox   4 pending   5 backlog   6 shard's index of expiries
-- ARGV  1 its expiry (ms)   2 the audit entry's context (JSON)   3 entries that the outbox holds at most
-- Reply 'ok', 'not_due', 'tenant_unknown' or 'outbox_full': an expiry waits for room, whatever operations do

local tenant = read_tenant()
if not tenant then return 'tenant_unknown' end
local expires_at = tonumber(redis.call('ZSCORE', KEYS[6], KEYS[2]) or -1)
if expires_at ~= tonumber(ARGV[1]) or expires_at > now_ms() then return 'not_due' end
if outbox_is_full(ARGV[3]) then return 'outbox_full' end
record_expiry(tenant, KEYS[2], KEYS[6], expires_at, ARGV[2])
return 'ok'
