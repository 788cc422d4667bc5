-- Sessions as libmilter's peer sees them: results inserted, forged ones removed, a refusal, several messages, an abort.

local function check(condition, what)
    if not condition then
        mt.echo("not so: " .. what)
        error(what)
    end
end

local function begin(connection, client)
    check(mt.conninfo(connection, "mail.good.example", client) == nil, "connect")
    check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to connect")
    check(mt.helo(connection, "mail.good.example") == nil, "helo")
    check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to helo")
end

local function message(connection, sender, forged)
    mt.macro(connection, SMFIC_MAIL, "i", "TESTQ1")
    check(mt.mailfrom(connection, sender) == nil, "mail")
    check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to mail")
    -- RCPT and DATA are left out, as was agreed.
    if forged then
        check(mt.header(connection, "Authentication-Results", "mx.example.net; spf=pass") == nil, "forged header")
    end
    check(mt.header(connection, "From", "ann@good.example") == nil, "from")
    check(mt.header(connection, "Subject", "miltertest") == nil, "subject")
    check(mt.eoh(connection) == nil, "end of header")
end

local connection = mt.connect(socket)
check(connection ~= nil, "no connection to " .. socket)
begin(connection, "127.0.0.5")

message(connection, "<ann@good.example>", true)
check(mt.bodystring(connection, "Hello.\r\n") == nil, "body")
check(mt.eom(connection) == nil, "end of message")
check(mt.getreply(connection) == SMFIR_CONTINUE, "it is taken")
check(mt.eom_check(connection, MT_HDRINSERT, "Authentication-Results"), "results")
check(mt.eom_check(connection, MT_HDRDELETE, "Authentication-Results"), "forged results are removed")

message(connection, "<ann@good.example>", false)
check(mt.abort(connection) == nil, "abort")

message(connection, "<ann@good.example>", false)
check(mt.eom(connection) == nil, "end of message")
check(mt.getreply(connection) == SMFIR_CONTINUE, "the next is taken")
check(mt.eom_check(connection, MT_HDRINSERT, "Authentication-Results"), "results of the next")
check(not mt.eom_check(connection, MT_HDRDELETE, "Authentication-Results"), "nothing is removed from the next")
mt.disconnect(connection)

local other = mt.connect(socket)
begin(other, "127.0.0.6")
message(other, "<ann@good.example>", false)
check(mt.bodystring(other, "Hello.\r\n") == nil, "body")
check(mt.eom(other) == nil, "end of message")
check(mt.getreply(other) == SMFIR_REPLYCODE, "it is refused")
mt.disconnect(other)
