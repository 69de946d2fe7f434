-- Holds a request for up to 2 s while no place of the customer serves, for instance while its agent restarts. Nothing of
-- the request is sent meanwhile. HAProxy alone answers 503 at once: on a unix socket it does not wait between two tries.

local HOLD, STEP, SLOTS = 2000, 25, 7 -- milliseconds; the highest slot of `jira-gateway-customer`
-- Servers of which a check has passed since this worker started. Before that HAProxy takes every server for UP.
local checked = {}

local function is_up(txn, backend, name)
    local key = backend .. "/" .. name
    local up = txn.f:srv_is_up(key)
    -- Depending on the version a number, and 0 is true in Lua.
    if up ~= true and up ~= 1 then
        return false
    end
    if not checked[key] then
        checked[key] = core.backends[backend].servers[name]:get_stats().check_status ~= "INI"
    end
    return checked[key]
end

local function serves(txn, backend)
    if core.backends[backend] == nil then
        return false
    end
    if core.backends[backend].servers["agent"] ~= nil then
        return is_up(txn, backend, "agent")
    end
    for slot = 0, SLOTS do
        if is_up(txn, backend, "slot-" .. slot) then
            return true
        end
    end
    return false
end

-- After a reload the old worker checks no server any more. The new one has the listening socket, and its checks run.
local function is_replaced()
    return core.frontends["customers"]:get_stats().status == "STOP"
end

core.register_action("choose_backend", { "http-req" }, function(txn)
    local own = txn:get_var("txn.backend")
    local shared = own .. "-shared"
    -- Of an older version: tried whatever its check says.
    if core.backends[shared] == nil then
        return
    end
    for _ = 0, HOLD, STEP do
        if serves(txn, own) then
            return
        end
        if serves(txn, shared) then
            txn:set_var("txn.backend", shared)
            return
        end
        if is_replaced() then
            txn:set_var("txn.backend", "inner")
            return
        end
        core.msleep(STEP)
    end
    txn:set_var("txn.backend", "offline")
end, 0)
