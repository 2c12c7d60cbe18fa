-- Count failed logins of one user or one address, in a window that begins with the first failure.
--
-- KEYS  1 failures
-- ARGV  1 'check', 'failed' or 'passed'   2 failures allowed   3 window (ms)   4 '1' when a pass clears the failures
-- Reply ms until attempts are taken again, 0 when they are
--
-- A pass counts for nothing once the limit is reached: guesses that were under way in parallel learn no more than
-- guesses one after the other.

local failures = tonumber(redis.call('GET', KEYS[1]) or 0)
if failures >= tonumber(ARGV[2]) then return redis.call('PTTL', KEYS[1]) end
if ARGV[1] == 'failed' then
  if redis.call('INCR', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
elseif ARGV[1] == 'passed' and ARGV[4] == '1' then
  redis.call('DEL', KEYS[1])
end
return 0
