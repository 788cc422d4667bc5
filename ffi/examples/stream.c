/*
 * Way two: messages that arrive piece by piece, as they do in a mail server, several at a time on one thread.
 *
 *     stream ZONE IP HELO MAIL-FROM FILE...
 *
 * Every FILE is a client that sends a little whenever it is its turn: the header line by line, then the body in pieces. The
 * verdicts are printed as JSON, in the order of the files. The DNS comes from the file ZONE; "-" asks the servers of the
 * system.
 */
#include <mailproof.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_OCTETS 4096
#define LINE_OCTETS 1000
#define FIELD_OCTETS 65536

typedef struct {
    const char *name;
    FILE *file;
    mailproof_session *session;
    mailproof_verdict *verdict;
    int in_body;
    /* A header field goes on until a line that does not begin with white space. */
    char field[FIELD_OCTETS];
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
static void take_header_line(client *it, const char *line)
{
    size_t length = strlen(line);

    if (strcmp(line, "\n") == 0 || strcmp(line, "\r\n") == 0) {
        end_field(it);
        check(mailproof_session_end_of_fields(it->session), it->name);
        it->in_body = 1;
        return;
    }
    if (line[0] != ' ' && line[0] != '\t')
        end_field(it);
    if (length > FIELD_OCTETS - it->field_length) {
        fprintf(stderr, "stream: %s: a header field is too long\n", it->name);
        exit(65);
    }
    memcpy(it->field + it->field_length, line, length);
    it->field_length += length;
}

/* The client sends something; 0 when it has sent all. */
static int take_turn(client *it)
{
    char piece[PIECE_OCTETS], line[LINE_OCTETS];
    size_t length;
    bool wants_body;

    if (!it->in_body) {
        if (fgets(line, sizeof line, it->file) != NULL) {
            take_header_line(it, line);
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
    }
    free(clients);
    return 0;
}
