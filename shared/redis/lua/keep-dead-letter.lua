-- Keep an event that nobody could deliver. When there are too many the oldest go.
--
-- KEYS  1 dead letters
-- ARGV  1 how many are kept at most   then name, value, … of the letter's fields
-- Reply how many went
--
-- The stream id is the time by Redis's own clock.

redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
return redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', ARGV[1])
