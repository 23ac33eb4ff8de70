-- Lowers the limits of servers whose health checks become slow, and raises them again.
--
-- An application with few processes, or whose pages take much processor time, can serve fewer requests at a time than maxconn
-- says. The others wait inside it, and so does its health check, until it fails. HAProxy has no limit that follows the server.
--
-- Arguments: the maximum; milliseconds of a slow check; the backend that checks; further backends with the same servers.
local arguments = table.pack(...)
local most, slow = tonumber(arguments[1]), tonumber(arguments[2])

-- Milliseconds.
local PERIOD, DISCOVERY = 100, 1000
-- Twice what a small application has of processes, or more. With fewer, requests would be refused for a machine that is busy
-- with something else, which makes checks slow as well.
local least = math.min(16, most)
-- Of a replica that is not known yet. Less would let requests wait after a reload, more would be too many for some before a
-- check tells.
local first = math.min(32, most)
local replicas = {} -- by address

-- Learn which servers of the backends are the same replica; what is known of a replica stays.
local function discover()
    local found = {}
    for place = 3, arguments.n do
        for _, server in pairs(core.backends[arguments[place]].servers) do
            local address = server:get_addr()
            if address and not address:find("unknown", 1, true) then
                local known = replicas[address] or {limit = first}
                if not found[address] then
                    found[address] = {limit = known.limit, waiting = known.waiting, servers = {}}
                end
                server:set_maxconn(known.limit)
                table.insert(found[address].servers, server)
                if place == 3 then
                    found[address].checked = server
                end
            end
        end
    end
    replicas = found
end

local function adapt(replica, current)
    local stats, limit = replica.checked:get_stats(), replica.limit
    -- So it begins while a check is under way.
    if (stats.check_status or ""):sub(1, 1) == "*" then
        replica.waiting = replica.waiting and replica.waiting + PERIOD or 0
        if replica.waiting >= slow then
            limit = math.max(least, math.floor(math.min(limit, current) * 3 / 4))
        end
    else
        replica.waiting = nil
        -- More only while requests need them.
        if (stats.check_duration or 0) <= slow and current >= limit then
            limit = math.min(most, limit + math.ceil(limit / 8))
        end
    end
    if limit ~= replica.limit then
        replica.limit = limit
        for _, server in ipairs(replica.servers) do
            server:set_maxconn(limit)
        end
    end
end

core.register_task(function()
    local age = DISCOVERY
    while true do
        age = age + PERIOD
        if age >= DISCOVERY then
            discover()
            age = 0
        end
        for _, replica in pairs(replicas) do
            local current = 0
            for _, server in ipairs(replica.servers) do
                current = current + server:get_cur_sess()
            end
            -- At rest there is nothing to adapt, and to ask for all figures of a server takes most of the time here.
            if replica.checked and current >= least then
                adapt(replica, current)
            else
                replica.waiting = nil
            end
        end
        core.msleep(PERIOD)
    end
end)
