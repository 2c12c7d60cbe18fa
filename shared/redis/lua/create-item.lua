-- Store a new item under a free key.
--
-- KEYS  own: item, shard's index of expiries
-- ARGV  own: value, metadata (JSON), ttl (seconds or ''), the caller's part of an audit entry
--       for the expiry of an item that was here before
-- Codes already_exists
-- Reply created_at, updated_at, expires_at (ms or ''), version, revision

return operate(function(_, now, tenant)
  if redis.call('EXISTS', ITEM) == 1 then return 'already_exists' end
  -- Nothing is here, but the index knows an item whose expiry nobody has recorded yet: that comes first. Unlike others
  -- it cannot wait for room in the outbox, because the new item takes its place in the index.
  local expired_at = redis.call('ZSCORE', EXPIRIES, ITEM)
  if expired_at then record_expiry(tenant, ITEM, EXPIRIES, tonumber(expired_at), ARGV[FIRST_ARG + 3], LEAVE_OUT) end
  return 'ok', write_item(now, tenant, digits(now), 1), 1
end)
