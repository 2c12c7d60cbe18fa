-- What the store knows of a tenant's trail: what was given out, what waits, what was set aside.
--
-- KEYS  own: quarantine
-- ARGV  own: how many waiting entries are looked at, newest first; the time (ms) before which they were written, '' for any
-- Reply {when the tenant was created, when the last number was given out} (ms), that number, quarantined numbers,
--       a list of {stream id, {field, value, …}}

-- The lowest number such that all entries from it on were written at `time` or later: searched by halving, because times
-- never run backwards inside a tenant.
local function first_from(time, last)
  local low, high = 1, last + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('XRANGE', KEYS[3], digits(middle), '+', 'COUNT', 1)[1]
    if entry and tonumber(value_of(entry[2], 'at')) < time then
      low = string.match(entry[1], '^%d+') + 1
    else
      high = middle
    end
  end
  return low
end

return operate(function(_, _, tenant)
  local count, to = ARGV[FIRST_ARG], ARGV[FIRST_ARG + 1]
  local newest = to == '' and '+' or '(' .. digits(first_from(tonumber(to), tenant.seq)) .. '-0'
  return 'ok', { { redis.call('HGET', KEYS[1], 'created_at'), digits(tenant.at) }, digits(tenant.seq),
    redis.call('HKEYS', KEYS[FIRST_KEY]), redis.call('XREVRANGE', KEYS[3], newest, '-', 'COUNT', count) }
end)
