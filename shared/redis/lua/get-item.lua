-- Read an item.
--
-- KEYS  own: item
-- Codes not_found
-- Reply value, metadata, ttl, created_at, updated_at, expires_at (ms or ''), version, revision

return operate(function()
  local item = redis.call('HMGET', KEYS[FIRST_KEY],
    'value', 'metadata', 'ttl', 'created_at', 'updated_at', 'expires_at', 'version', 'revision')
  if not item[1] then return 'not_found' end
  return 'ok', item, tonumber(item[7])
end)
