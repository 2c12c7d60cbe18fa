-- A page of the tenant's API keys, newest first.
--
-- KEYS  own: API keys, their index
-- ARGV  own: number below which the page lies ('+inf' for the first), how many
-- Reply a list of: number, key id, name, env, hint, scopes, disabled, created_at, username, last_used, expires_at

return operate(function()
  local keys, index = KEYS[FIRST_KEY], KEYS[FIRST_KEY + 1]
  local found = redis.call('ZRANGE', index, '(' .. ARGV[FIRST_ARG], '-inf', 'BYSCORE', 'REV',
    'LIMIT', 0, ARGV[FIRST_ARG + 1], 'WITHSCORES')
  local page = {}
  for i = 1, #found, 2 do
    local id = found[i]
    page[#page + 1] = { found[i + 1], id, unpack(redis.call('HMGET', keys, id .. '.name', id .. '.env', id .. '.hint',
      id .. '.scopes', id .. '.disabled', id .. '.created_at', id .. '.username', id .. '.last_used', id .. '.expires_at')) }
  end
  return 'ok', page
end)
