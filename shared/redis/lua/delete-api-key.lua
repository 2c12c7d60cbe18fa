-- Remove an API key. What proves its text is kept for a while, so that a use after the deletion can be told from
-- garbage and stands in the audit trail.
--
-- KEYS  own: API keys, their index, what is kept of the deleted key
-- ARGV  own: key id, how long to keep (ms), then the names of the record's fields
-- Codes not_found

return operate(function()
  local keys, index, kept, id = KEYS[FIRST_KEY], KEYS[FIRST_KEY + 1], KEYS[FIRST_KEY + 2], ARGV[FIRST_ARG]
  local hash, pepper, username = unpack(redis.call('HMGET', keys, id .. '.hash', id .. '.pepper', id .. '.username'))
  if not hash then return 'not_found' end
  for i = FIRST_ARG + 2, #ARGV do
    redis.call('HDEL', keys, id .. '.' .. ARGV[i])
  end
  redis.call('ZREM', index, id)
  redis.call('HSET', kept, 'hash', hash, 'pepper', pepper, 'username', username)
  redis.call('PEXPIRE', kept, ARGV[FIRST_ARG + 1])
  return 'ok'
end)
