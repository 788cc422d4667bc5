-- What is agreed: the changes that are used and no others; what an old server offers is enough; too little is refused.

local function check(condition, what)
    if not condition then
        mt.echo("not so: " .. what)
        error(what)
    end
end

local function agree(version, actions, steps)
    local connection = mt.connect(socket)
    check(connection ~= nil, "no connection to " .. socket)
    return connection, mt.negotiate(connection, version, actions, steps) == nil
end

-- As today's servers: nothing of a message may be changed but its header, and it may be held.
local connection, agreed = agree(6, 0x1ff, 0x1fffff)
check(agreed, "version 6")
for name, action in pairs({body = SMFIF_CHGBODY, recipients = SMFIF_ADDRCPT, recipient = SMFIF_DELRCPT}) do
    check(not mt.test_action(connection, action), "the " .. name .. " may not be changed")
end
check(mt.test_action(connection, SMFIF_ADDHDRS) and mt.test_action(connection, SMFIF_CHGHDRS), "the header may be changed")
mt.disconnect(connection)

-- As servers of twenty years ago: seven steps, and a reply to each command.
connection, agreed = agree(2, 0x3f, 0x7f)
check(agreed, "version 2")
check(mt.conninfo(connection, "mail.good.example", "127.0.0.5") == nil, "connect")
check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to connect")
check(mt.helo(connection, "mail.good.example") == nil, "helo")
check(mt.mailfrom(connection, "<ann@good.example>") == nil, "mail")
-- RCPT is not wanted.
check(mt.header(connection, "From", "ann@good.example") == nil, "from")
check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to a header field")
check(mt.eoh(connection) == nil, "end of header")
check(mt.bodystring(connection, "Hello.\r\n") == nil, "body")
check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to the body")
check(mt.eom(connection) == nil, "end of message")
check(mt.getreply(connection) == SMFIR_CONTINUE, "it is taken")
check(mt.eom_check(connection, MT_HDRINSERT, "Authentication-Results"), "results")
mt.disconnect(connection)
