-- Replace an item: its value, metadata and expiry.
--
-- KEYS  own: item, shard's index of expiries
-- ARGV  own: value, metadata (JSON), ttl (seconds or ''), If-Match ('' for none, '*', or ',revision,revision,')
-- Codes not_found precondition_failed
-- Reply created_at, updated_at, expires_at (ms or ''), version, revision

return operate(function(_, now, tenant)
  local failure = check_precondition(ARGV[FIRST_ARG + 3])
  if failure then return failure end
  local created_at, version = unpack(redis.call('HMGET', ITEM, 'created_at', 'version'))
  version = version + 1
  return 'ok', write_item(now, tenant, created_at, version), version
end)
