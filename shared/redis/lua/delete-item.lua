-- Remove an item.
--
-- KEYS  own: item
-- ARGV  own: If-Match ('' for none, '*', or ',revision,revision,')
-- Codes not_found precondition_failed

return operate(function()
  local key = KEYS[FIRST_KEY]
  local failure = check_precondition(key, ARGV[FIRST_ARG])
  if failure then return failure end
  local version = redis.call('HGET', key, 'version')
  redis.call('DEL', key)
  return 'ok', nil, tonumber(version)
end)
