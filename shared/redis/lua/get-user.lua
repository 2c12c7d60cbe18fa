-- The calling user.
--
-- Reply username, email, full_name, role

return operate(function()
  local id = ARGV[3]
  return 'ok', redis.call('HMGET', KEYS[2], id .. '.username', id .. '.email', id .. '.full_name', id .. '.role')
end)
