-- A request that will not be carried out: wrong in itself, by a caller who would otherwise have been allowed.
--
-- ARGV  own: why
-- Codes the given one

return operate(function()
  return ARGV[FIRST_ARG]
end)
