/*
 * Way two: messages that arrive piece by piece, as they do in a mail server, several at a time on one thread.
 *
 *     stream ZONE IP HELO MAIL-FROM FILE...
 *
 * Every FILE is a client that sends a little whenever it is its turn: the header line by line, then the body in pieces. The
 * verdicts are printed as JSON, in the order of the files. The DNS comes from the file ZONE; "-" asks the servers of the
 * system, and then the end of a message waits for their answers: a server that can not wait hands its sessions to
 * mailproof_queue_finish(), and has the verdicts by a descriptor, as in epoll.c.
 */
#define _POSIX_C_SOURCE 200809L /* getline() */

#include <mailproof.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define PIECE_OCTETS 4096
/* More of a header than the library looks at (16 MiB) need not be passed in. */
#define FIELD_OCTETS_MAX ((size_t)16 * 1024 * 1024)

typedef struct {
    const char *name;
    FILE *file;
    mailproof_session *session;
    mailproof_verdict *verdict;
    int in_body;
    /* The line that was read last; lines may be of any length and hold any octet. */
    char *line;
    size_t line_room;
    /* A header field goes on until a line that does not begin with white space. */
    char *field;
    size_t field_length;
} client;

static void check(mailproof_status status, const char *what)
{
    if (status != MAILPROOF_STATUS_OK) {
        fprintf(stderr, "stream: %s: %s\n", what, mailproof_last_error());
        exit(70);
    }
}

static mailproof_engine *make_engine(const char *zone_path)
{
    mailproof_engine_options options;
    mailproof_engine *engine;
    mailproof_zone *zone = NULL;

    check(mailproof_engine_options_init(sizeof options, &options), "options");
    options.authserv_id = "mx.example.net";
    if (strcmp(zone_path, "-") != 0) {
        check(mailproof_zone_new(&zone), "zone");
        check(mailproof_zone_add_file(zone, zone_path), "zone");
        options.dns = MAILPROOF_DNS_ZONE;
        options.zone = zone;
    }
    check(mailproof_engine_new(&options, &engine), "engine");
    mailproof_zone_free(zone);
    return engine;
}

static void end_field(client *it)
{
    if (it->field_length > 0)
        check(mailproof_session_field(it->session, it->field, it->field_length), it->name);
    it->field_length = 0;
}

/* One line of the header. */
static void take_header_line(client *it, size_t length)
{
    const char *line = it->line;
    char *grown;

    if ((length == 1 && line[0] == '\n') || (length == 2 && memcmp(line, "\r\n", 2) == 0)) {
        end_field(it);
        check(mailproof_session_end_of_fields(it->session), it->name);
        it->in_body = 1;
        return;
    }
    if (line[0] != ' ' && line[0] != '\t')
        end_field(it);
    if (length > FIELD_OCTETS_MAX - it->field_length)
        length = FIELD_OCTETS_MAX - it->field_length;
    grown = (char *)realloc(it->field, it->field_length + length + 1);
    if (grown == NULL)
        exit(71);
    it->field = grown;
    memcpy(it->field + it->field_length, line, length);
    it->field_length += length;
}

/* The client sends something; 0 when it has sent all. */
static int take_turn(client *it)
{
    char piece[PIECE_OCTETS];
    ssize_t line_length;
    size_t length;
    bool wants_body;

    if (!it->in_body) {
        line_length = getline(&it->line, &it->line_room, it->file);
        if (line_length > 0) {
            take_header_line(it, (size_t)line_length);
            return 1;
        }
        end_field(it);
    } else {
        /* A body that nothing depends on need not be passed in. */
        check(mailproof_session_wants_body(it->session, &wants_body), it->name);
        length = wants_body ? fread(piece, 1, sizeof piece, it->file) : 0;
        check(mailproof_session_push(it->session, piece, length), it->name);
        if (length > 0)
            return 1;
    }
    if (ferror(it->file)) {
        /* The rest is missing: a verdict on this would be one on another message. */
        perror(it->name);
        exit(66);
    }
    check(mailproof_session_finish(it->session, &it->verdict), it->name);
    return 0;
}

int main(int argc, char **argv)
{
    mailproof_engine *engine;
    mailproof_envelope envelope;
    client *clients;
    int count = argc - 5, open, index;

    if (count < 1) {
        fprintf(stderr, "usage: stream ZONE IP HELO MAIL-FROM FILE...\n");
        return 64;
    }
    engine = make_engine(argv[1]);
    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = argv[2];
    envelope.helo = argv[3];
    envelope.mail_from = argv[4];
    envelope.flags = MAILPROOF_LINE_ENDS_LF;

    clients = (client *)calloc((size_t)count, sizeof *clients);
    if (clients == NULL)
        return 71;
    for (index = 0; index < count; index++) {
        client *it = &clients[index];
        it->name = argv[5 + index];
        it->file = fopen(it->name, "rb");
        if (it->file == NULL) {
            perror(it->name);
            return 66;
        }
        check(mailproof_session_new(engine, &envelope, &it->session), it->name);
    }
    mailproof_engine_free(engine); /* The sessions keep what they need of it. */

    do {
        open = 0;
        for (index = 0; index < count; index++)
            if (clients[index].verdict == NULL)
                open += take_turn(&clients[index]);
    } while (open > 0);

    for (index = 0; index < count; index++) {
        char *json;
        check(mailproof_verdict_json(clients[index].verdict, clients[index].name, &json), "JSON");
        puts(json);
        mailproof_text_free(json);
        mailproof_verdict_free(clients[index].verdict);
        mailproof_session_free(clients[index].session);
        fclose(clients[index].file);
        free(clients[index].line);
        free(clients[index].field);
    }
    free(clients);
    return 0;
}
