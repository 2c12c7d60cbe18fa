-- Store a new item under a free key.
--
-- KEYS  own: item
-- ARGV  own: value, metadata (JSON), ttl (seconds or '')
-- Codes already_exists
-- Reply created_at, updated_at, expires_at (ms or ''), version, revision

return operate(function(_, now, seq)
  local key = KEYS[FIRST_KEY]
  if redis.call('EXISTS', key) == 1 then return 'already_exists' end
  return 'ok', write_item(key, now, seq, digits(now), 1), 1
end)
