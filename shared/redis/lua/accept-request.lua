-- A request whose work is done elsewhere: authenticated, authorized and audited here.
--
-- Codes none but the shared ones

return operate(function()
  return 'ok'
end)
