-- Shared by the scripts under which an item's expiry becomes an audit entry. Needs outbox.lua in front of it.

-- Record that an item's time was over at `expires_at` (ms): exactly once, because the index entry goes with it. An item
-- that was deleted or got another expiry in time has no such index entry any more.
--   limit: as of append
local function record_expiry(tenant, item, index, expires_at, context, limit)
  redis.call('ZREM', index, item)
  redis.call('DEL', item)
  append(tenant, { at = now_ms(), outcome = 'success', reason = '', actor = 'system:data-expire', username = '',
    context = context, expires_at = expires_at }, limit)
end
