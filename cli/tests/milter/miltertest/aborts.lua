-- Messages given up at every stage, ten times over one connection, each followed by one that is judged.

local function check(condition, what)
    if not condition then
        mt.echo("not so: " .. what)
        error(what)
    end
end

local function expect(command, result)
    check(result == nil, command)
end

local connection = mt.connect(socket)
check(connection ~= nil, "no connection to " .. socket)
expect("connect", mt.conninfo(connection, "mail.good.example", "127.0.0.5"))
check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to connect")
expect("helo", mt.helo(connection, "mail.good.example"))
check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to helo")

-- Each takes the message one step further.
local steps = {
    function()
        expect("mail", mt.mailfrom(connection, "<ann@good.example>"))
        check(mt.getreply(connection) == SMFIR_CONTINUE, "reply to mail")
    end,
    function() expect("from", mt.header(connection, "From", "ann@good.example")) end,
    function() expect("subject", mt.header(connection, "Subject", "miltertest")) end,
    function() expect("end of header", mt.eoh(connection)) end,
    function() expect("body", mt.bodystring(connection, "Hello.\r\n")) end,
}

local function message(last)
    mt.macro(connection, SMFIC_MAIL, "i", "TESTQ2")
    for step = 1, last do
        steps[step]()
    end
end

for round = 1, 10 do
    for last = 1, #steps do
        message(last)
        expect("abort", mt.abort(connection))
    end
    message(#steps)
    expect("end of message", mt.eom(connection))
    check(mt.getreply(connection) == SMFIR_CONTINUE, "it is taken")
    check(mt.eom_check(connection, MT_HDRINSERT, "Authentication-Results"), "results")
end
mt.disconnect(connection)
