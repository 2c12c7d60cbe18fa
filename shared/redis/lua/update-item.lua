-- Replace an item: its value, metadata and expiry.
--
-- KEYS  own: item, shard's index of expiries
-- ARGV  own: value, metadata (JSON), ttl (seconds or ''), If-Match, If-None-Match
-- Codes not_found precondition_failed
-- Reply created_at, updated_at, expires_at (ms or ''), version, revision

return operate(function(_, now, tenant)
  local failure = check_preconditions(ARGV[FIRST_ARG + 3], ARGV[FIRST_ARG + 4])
  if failure then return failure end
  local created_at, version = unpack(redis.call('HMGET', ITEM, 'created_at', 'version'))
  version = version + 1
  return 'ok', write_item(now, tenant, created_at, version), version
end)
