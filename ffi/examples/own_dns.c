/*
 * Way four: the program answers the questions itself; the library has no thread and no socket. This also works with the
 * minimal build of the library.
 *
 *     own_dns SERVER PORT IP HELO MAIL-FROM FILE
 *
 * The resolver here is that of the C library, with one IPv4 server. A server with a resolver of its own would send all
 * questions at once and hand in the answers as they come.
 */
#define _DEFAULT_SOURCE 1

#include <mailproof.h>

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(mailproof_status status, const char *what)
{
    if (status != MAILPROOF_STATUS_OK) {
        fprintf(stderr, "own_dns: %s: %s\n", what, mailproof_last_error());
        exit(70);
    }
}

/* Asks one question and hands in what came of it. */
static void answer(mailproof_session *session, res_state resolver, const mailproof_question *question)
{
    static unsigned char query[1024], reply[NS_MAXMSG];
    mailproof_answer failed;
    mailproof_status status;
    int length;

    length = res_nmkquery(resolver, ns_o_query, question->name, ns_c_in, (int)question->record_type, NULL, 0, NULL,
                          query, sizeof query);
    if (length > 0)
        length = res_nsend(resolver, query, length, reply, sizeof reply);
    if (length > 0) {
        status = mailproof_session_answer_message(session, question->id, reply, (size_t)length, 0);
        if (status == MAILPROOF_STATUS_OK)
            return;
        fprintf(stderr, "own_dns: %s: %s\n", question->name, mailproof_last_error());
    }
    memset(&failed, 0, sizeof failed);
    failed.size = sizeof failed;
    failed.outcome = length > 0 ? MAILPROOF_ANSWER_MALFORMED : MAILPROOF_ANSWER_TIMED_OUT;
    check(mailproof_session_answer(session, question->id, &failed), question->name);
}

/* Answers questions until there are none; true when the verdict stands. */
static int advance(mailproof_session *session, res_state resolver)
{
    mailproof_progress progress;
    mailproof_question question;
    mailproof_status status;
    int asked;

    do {
        check(mailproof_session_poll(session, &progress, NULL), "poll");
        asked = 0;
        while ((status = mailproof_session_next_question(session, sizeof question, &question)) == MAILPROOF_STATUS_OK) {
            answer(session, resolver, &question);
            asked = 1;
        }
        if (status != MAILPROOF_STATUS_EMPTY)
            check(status, "question");
    } while (asked);
    return progress == MAILPROOF_PROGRESS_DONE;
}

int main(int argc, char **argv)
{
    struct __res_state resolver;
    mailproof_engine_options options;
    mailproof_engine *engine;
    mailproof_envelope envelope;
    mailproof_session *session;
    mailproof_verdict *verdict;
    char piece[4096], *json;
    size_t length;
    FILE *file;

    if (argc != 7) {
        fprintf(stderr, "usage: own_dns SERVER PORT IP HELO MAIL-FROM FILE\n");
        return 64;
    }
    memset(&resolver, 0, sizeof resolver);
    if (res_ninit(&resolver) != 0)
        return 71;
    resolver.nscount = 1;
    memset(&resolver.nsaddr_list[0], 0, sizeof resolver.nsaddr_list[0]);
    resolver.nsaddr_list[0].sin_family = AF_INET;
    resolver.nsaddr_list[0].sin_port = htons((uint16_t)atoi(argv[2]));
    if (inet_pton(AF_INET, argv[1], &resolver.nsaddr_list[0].sin_addr) != 1)
        return 64;

    check(mailproof_engine_options_init(sizeof options, &options), "options");
    options.authserv_id = "mx.example.net";
    options.dns = MAILPROOF_DNS_CALLER;
    check(mailproof_engine_new(&options, &engine), "engine");

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = argv[3];
    envelope.helo = argv[4];
    envelope.mail_from = argv[5];
    envelope.flags = MAILPROOF_LINE_ENDS_LF;
    check(mailproof_session_new(engine, &envelope, &session), "session");

    /* SPF is known before the first octet of the message. */
    advance(session, &resolver);
    file = fopen(argv[6], "rb");
    if (file == NULL) {
        perror(argv[6]);
        return 66;
    }
    while ((length = fread(piece, 1, sizeof piece, file)) > 0) {
        check(mailproof_session_push(session, piece, length), "message");
        advance(session, &resolver);
    }
    if (ferror(file)) {
        perror(argv[6]);
        return 66;
    }
    fclose(file);
    check(mailproof_session_end(session), "message");
    if (!advance(session, &resolver)) {
        fprintf(stderr, "own_dns: neither a question nor a verdict\n");
        return 70;
    }
    check(mailproof_session_finish(session, &verdict), "verdict");
    check(mailproof_verdict_json(verdict, argv[6], &json), "JSON");
    puts(json);

    mailproof_text_free(json);
    mailproof_verdict_free(verdict);
    mailproof_session_free(session);
    mailproof_engine_free(engine);
    res_nclose(&resolver);
    return 0;
}
