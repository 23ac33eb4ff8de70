-- Lowers the limits of servers whose health checks become slow, and raises them again.
--
-- An application with few processes, or whose pages take much processor time, can serve fewer requests at a time than maxconn
-- says. The others wait inside it, and so does its health check, until it fails. HAProxy has no limit that follows the server.
--
-- Arguments: the limits that a replica never falls below, that it begins with, and that it never exceeds; milliseconds of a slow
-- check; the backend that checks; further backends with the same servers.
local arguments = table.pack(...)
local least, first, most, slow = table.unpack(arguments, 1, 4)
least, first, most, slow = tonumber(least), tonumber(first), tonumber(most), tonumber(slow)
local CHECKED = 5

-- Milliseconds.
local PERIOD, DISCOVERY = 100, 1000
-- Limits outlive a reload: the process that follows begins with those of the one before.
local KEPT = "/run/haproxy/limits"
local replicas = {} -- by address
local taken = {} -- slots that hold a replica

local function now()
    local time = core.now()
    return time.sec * 1000 + time.usec // 1000
end

local function read()
    local file = io.open(KEPT)
    if not file then
        return
    end
    for line in file:lines() do
        local address, limit = line:match("^(%S+) (%d+)$")
        if address then
            replicas[address] = {limit = math.max(least, math.min(most, tonumber(limit)))}
        end
    end
    file:close()
end

local function keep()
    -- A process that a reload has replaced goes on for as long as its connections last, and knows no better.
    if core.get_info().Stopping ~= 0 then
        return
    end
    local file = io.open(KEPT .. ".new", "w")
    if file then
        for address, replica in pairs(replicas) do
            file:write(address, " ", replica.limit, "\n")
        end
        file:close()
        os.rename(KEPT .. ".new", KEPT)
    end
end

-- Learn which servers of the backends are the same replica; what is known of a replica stays.
local function discover()
    local found = {}
    for place = CHECKED, arguments.n do
        for name, server in pairs(core.backends[arguments[place]].servers) do
            local address, slot = server:get_addr(), place .. " " .. name
            if address and not address:find("unknown", 1, true) and address:sub(1, 8) ~= "0.0.0.0:" then
                local replica = found[address]
                if not replica then
                    replica = replicas[address] or {limit = first}
                    replica.servers, replica.checked, found[address] = {}, nil, replica
                end
                if taken[slot] ~= address then
                    server:set_maxconn(replica.limit)
                    taken[slot] = address
                end
                table.insert(replica.servers, server)
                if place == CHECKED then
                    replica.checked = server
                end
            elseif taken[slot] then
                -- Whoever comes next begins as everybody.
                server:set_maxconn(first)
                taken[slot] = nil
            end
        end
    end
    replicas = found
end

local function adapt(replica, current)
    local stats, limit = replica.checked:get_stats(), replica.limit
    -- So it begins while a check is under way.
    if (stats.check_status or ""):sub(1, 1) == "*" then
        replica.since = replica.since or now()
        if now() - replica.since >= slow then
            limit = math.max(least, math.floor(math.min(limit, current) * 3 / 4))
        end
    else
        replica.since = nil
        -- More only while requests need them.
        if (stats.check_duration or 0) <= slow and current >= limit then
            limit = math.min(most, limit + math.ceil(limit / 8))
        end
    end
    if limit == replica.limit then
        return false
    end
    replica.limit = limit
    for _, server in ipairs(replica.servers) do
        server:set_maxconn(limit)
    end
    return true
end

read()
core.register_task(function()
    local discovered, changed = 0, false
    while true do
        if now() - discovered >= DISCOVERY then
            discover()
            if changed then
                keep()
            end
            discovered, changed = now(), false
        end
        for _, replica in pairs(replicas) do
            local current = 0
            for _, server in ipairs(replica.servers) do
                current = current + server:get_cur_sess()
            end
            -- At rest there is nothing to adapt, and to ask for all figures of a server takes most of the time here.
            if replica.checked and current >= least then
                changed = adapt(replica, current) or changed
            else
                replica.since = nil
            end
        end
        core.msleep(PERIOD)
    end
end)
