-- Shared by the scripts that look into entries of an outbox.

-- A field of an entry as XRANGE answers it, nil when it has none of that name.
local function value_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end
